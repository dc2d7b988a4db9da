"""Prints the results of the benchmarks as a table."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Benchmark, Result


def show(console: Console, rows: Sequence[tuple[type[Benchmark], Result]], conditions: str) -> None:
    """Print one row per benchmark, then what each benchmark compares and what limits ours."""
    table = Table(title="Ours beside its peer; a ratio above 1 means ours is better")
    table.add_column("what")
    for heading in ("ours", "peer", "unit", "ratio", "target"):
        table.add_column(heading, justify="right")
    for _, result in rows:
        table.add_row(*_cells(result))
    console.print(table)
    console.print(conditions, style="dim")
    for kind, result in rows:
        console.print(f"\n[bold]{result.name}[/]: {kind.compares}\n  limited by {kind.limited_by}")


def _cells(result: Result) -> tuple[str, ...]:
    figures = (f"{figure:,.1f}" for figure in (result.ours, result.peer))
    colour = "green" if result.reached else "red"
    ratio = f"[{colour}]{result.ratio:.2f}[/]"
    return (result.name, *figures, result.unit.value, ratio, f"{result.target:.1f}")
