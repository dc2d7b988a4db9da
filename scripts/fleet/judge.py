"""The command line of scripts/judge-quality: measures precision and recall of the diagnosis."""

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.servers import running
from fleet.published import judge_published
from fleet.quality import (
    JUDGES,
    KINDS,
    Kind,
    Score,
    Tally,
    judge_fleet,
    together,
)
from operations.library import load_library
from real_data import real_data
from skald.postgres import Database

ROOT = Path(os.environ["SKALD_ROOT"])
DATA = real_data("vehicle")

type Row = tuple[str, Tally]


def main() -> None:
    """Judge fleets or public recordings; print a table for each, then one JSON line."""
    options = _parser().parse_args()
    with running(ROOT, fsync=False) as servers:
        load_library(Database(servers.migrator_dsn))
        results = _data(options) if options.data else _fleets(options)
    print(json.dumps(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/judge-quality",
        description="Diagnose fleets with known faults: by the rules alone, and by the agents with"
        " the offline expert. Print precision and recall.",
    )
    parser.add_argument("--fleets", type=int, default=200, help="fleets of each kind (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first fleet (0)")
    parser.add_argument("--data", action="store_true", help="judge the recordings of SKALD_DATA")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    return parser


def _fleets(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {"fleets": options.fleets, "seed": options.seed}
    for kind in KINDS:
        seeds = range(options.seed, options.seed + options.fleets)
        by_judge = zip(*_judge(kind, seeds), strict=True)
        rows = {
            name: _rows(together(scores)) for name, scores in zip(JUDGES, by_judge, strict=True)
        }
        results[kind] = _shown(options, kind, rows)
    return results


def _judge(kind: Kind, seeds: range) -> Iterator[list[Score]]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        scores = pool.map(partial(judge_fleet, kind, judges=[*JUDGES.values()]), seeds)
        yield from track(scores, kind, len(seeds), console=Console(stderr=True), transient=True)


def _rows(score: Score) -> list[Row]:
    return [*sorted(score.tallies.items()), ("all", score.total)]


def _data(options: argparse.Namespace) -> dict[str, Any]:
    rows = {
        name: [(f"{m.recording}, {m.unit}", m.tally) for m in judge_published(DATA, judge)]
        for name, judge in JUDGES.items()
    }
    return {"data": _shown(options, "public recordings", rows)}


def _shown(
    options: argparse.Namespace, title: str, by_judge: dict[str, list[Row]]
) -> dict[str, dict[str, Any]]:
    """Print a table for each judge, unless only JSON is wanted; return the figures."""
    if not options.json:
        for name, rows in by_judge.items():
            Console().print(_table(f"{title}, {name}", rows))
    return {name: {row: _figures(tally) for row, tally in rows} for name, rows in by_judge.items()}


def _figures(tally: Tally) -> dict[str, Any]:
    return {**vars(tally), "precision": tally.precision, "recall": tally.recall}


def _table(title: str, rows: Iterable[Row]) -> Table:
    table = Table("what", "right", "missed", "invented", "precision", "recall", title=title)
    for name, tally in rows:
        counts = (str(tally.right), str(tally.missed), str(tally.invented))
        table.add_row(name, *counts, _share(tally.precision), _share(tally.recall))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
