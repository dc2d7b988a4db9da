"""Shows the demo's progress and outcome on stderr; stdout is for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from client.api import Client
from fleet import Truth

console = Console(stderr=True, highlight=False)
_COLOURS = {"critical": "red", "high": "bright_red", "medium": "yellow", "low": "cyan"}


@contextmanager
def transfer(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of an upload in bytes."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(TextColumn("upload     "), *columns, console=console) as bar:
        task = bar.add_task("upload", total=total_bytes)
        yield lambda count: bar.advance(task, count)


def follow(client: Client, batch_id: UUID) -> None:
    """Print the address of the live page, and show the batch live until it ends."""
    console.print(f"watch it: {client.live_page(batch_id)}", style="dim", soft_wrap=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    label = TextColumn("{task.description:<11}")
    with Progress(label, *columns, TimeElapsedColumn(), console=console) as bar:
        task, shown = bar.add_task("waiting", total=None), ""
        for event in client.progress(batch_id):
            bar.update(
                task,
                description=event.data["status"],
                total=event.data["total_files"],
                completed=event.data["processed_files"],
            )
            line = f"{event.data['status']:<11}{event.data['percentage']:5.1f} %"
            if line != shown and not console.is_terminal:
                console.print(line, style="dim")
                shown = line
            if event.data["status"] == "diagnosing":
                _watch_agents(client, batch_id)


def _watch_agents(client: Client, batch_id: UUID) -> None:
    """Print each agent's conclusion as it comes; the last event repeats those that were lost."""
    shown: set[tuple[str, str]] = set()
    for event in client.diagnosis(batch_id):
        for turn in event.data.get("path", [event.data] if event.name == "finished" else []):
            line = (turn["node"], " ".join(turn["summary"].split()))
            if line not in shown:
                shown.add(line)
                console.print(
                    f"  [bold]{line[0]}[/] {_plain(line[1])}", no_wrap=True, overflow="ellipsis"
                )


def findings(result: dict[str, Any], truth: Truth | None) -> list[str]:
    """Show the outcome; return the titles of planted faults that were not found."""
    console.print()
    for name, reason in result["failures"].items():
        console.print(f"[yellow]could not be parsed[/] {name}: {reason}")
    if result["status"] != "completed":
        console.print(f"[red]the batch has failed:[/] {result['failure']}")
        return []
    for finding in result["findings"]:
        console.print(_panel(finding))
    console.print(f"{result['summary']}\n[dim]{result['judged_by']}[/]")
    missed = _planted(result["findings"], truth) if truth else []
    console.print(
        f"\n{result['files_parsed']} of {result['files_total']} files, "
        f"{result['events']:,} events, {result['errors']:,} errors "
        f"in {result['elapsed_s']} s\nreport: [bold]{result['report_html']}[/]"
    )
    return missed


def _panel(finding: dict[str, Any]) -> Panel:
    colour = _COLOURS.get(finding["severity"], "white")
    quotes = "\n".join(
        f"[dim]{quote['file']}:{quote['line'] or '-'}[/] {_plain(quote['quote'])}"
        for quote in finding["evidence"][:3]
    )
    body = f"{finding['root_cause']}\n\n{quotes}\n\n[bold]Do:[/] {finding['recommended_action']}"
    title = f"[{colour}]{finding['severity']}[/] {finding['title']} ({finding['confidence']:.0%})"
    return Panel(body, title=title, title_align="left", border_style=colour)


def _planted(found: list[dict[str, Any]], truth: Truth) -> list[str]:
    rules = {finding["rule"] for finding in found}
    table = Table("planted fault", "vehicles", "found", title="What was planted, what was found")
    for fault in truth.faults:
        mark = "[green]yes[/]" if fault.rule in rules else "[red]no[/]"
        table.add_row(fault.title, ", ".join(fault.vehicles), mark)
    console.print(table)
    return [fault.title for fault in truth.faults if fault.rule not in rules]


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
