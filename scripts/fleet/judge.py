"""The command line of scripts/judge-quality: precision and recall of the diagnosis per fault."""

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fleet.quality import KINDS, Kind, Score, Tally, judge_fleet, together


def main() -> None:
    """Judge the fleets of each kind and print a table for each, then one JSON line."""
    options = _parser().parse_args()
    results: dict[str, Any] = {"fleets": options.fleets, "seed": options.seed}
    for kind in KINDS:
        score = together(_judge(kind, range(options.seed, options.seed + options.fleets)))
        if not options.json:
            Console().print(_table(kind, score))
        results[kind] = {rule: _figures(tally) for rule, tally in _rows(score)}
    print(json.dumps(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/judge-quality",
        description="Generate fleets with known faults, diagnose them, print precision and recall.",
    )
    parser.add_argument("--fleets", type=int, default=200, help="fleets of each kind (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first fleet (0)")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    return parser


def _judge(kind: Kind, seeds: range) -> Iterator[Score]:
    with ProcessPoolExecutor() as pool:
        scores = pool.map(partial(judge_fleet, kind), seeds)
        yield from track(scores, kind, len(seeds), console=Console(stderr=True), transient=True)


def _rows(score: Score) -> list[tuple[str, Tally]]:
    return [*sorted(score.tallies.items()), ("all", score.total)]


def _figures(tally: Tally) -> dict[str, Any]:
    return {**vars(tally), "precision": tally.precision, "recall": tally.recall}


def _table(kind: Kind, score: Score) -> Table:
    table = Table("fault", "right", "missed", "invented", "precision", "recall", title=kind)
    for rule, tally in _rows(score):
        counts = (str(tally.right), str(tally.missed), str(tally.invented))
        table.add_row(rule, *counts, _share(tally.precision), _share(tally.recall))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
