"""The command line of scripts/bench."""

import argparse
import cProfile
import io
import json
import os
import pstats
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

from rich.console import Console

from benchmarks.cache import ProcessHit, RedisHit
from benchmarks.checkpoints import CheckpointBytes, CheckpointedSteps, CheckpointRestore
from benchmarks.harness import Benchmark, Result, measure, report
from benchmarks.idempotency import FirstCall, Replay
from benchmarks.imports import Imports
from benchmarks.outbox import OutboxTransaction
from benchmarks.relay import Relay
from benchmarks.retrieval import Retrieval
from benchmarks.saga import Saga
from benchmarks.servers import Servers, running
from benchmarks.table import show

ALL: tuple[type[Benchmark], ...] = (
    OutboxTransaction,
    Relay,
    Saga,
    FirstCall,
    Replay,
    ProcessHit,
    RedisHit,
    Imports,
    CheckpointedSteps,
    CheckpointBytes,
    CheckpointRestore,
    Retrieval,
)
FEWEST_ROUNDS = 5


def main() -> None:
    """Run the chosen benchmarks on their own servers."""
    arguments = _parser().parse_args()
    chosen = [kind for kind in ALL if arguments.only in kind.name]
    if not chosen:
        sys.exit(f"no benchmark is called {arguments.only!r}; there are: {_names()}")
    with running(Path(os.environ["SKALD_ROOT"]), fsync=arguments.fsync) as servers:
        if arguments.profile:
            _profile_all(chosen, servers)
            return
        with redirect_stdout(io.StringIO()):  # the kernel prints metrics to stdout
            rows = [(kind, _run(kind, servers, arguments.rounds)) for kind in chosen]
    conditions = f"medians of {arguments.rounds} alternating rounds on one PostgreSQL "
    conditions += f"(fsync {'on' if arguments.fsync else 'off'}) and one Valkey"
    show(Console(stderr=arguments.json), rows, conditions)
    if arguments.json:
        print(json.dumps(report(result for _, result in rows)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Compare the kernel with its alternatives on one PostgreSQL and one Valkey.",
        epilog=f"benchmarks: {_names()}",
    )
    parser.add_argument("--only", metavar="NAME", default="", help="run what has this in its name")
    parser.add_argument("--rounds", type=_rounds, default=7, help="measured rounds (7; at least 5)")
    parser.add_argument("--fsync", action="store_true", help="wait for the disk at every commit")
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")
    parser.add_argument("--profile", action="store_true", help="profile one round of the kernel")
    return parser


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(f"a median of fewer than {FEWEST_ROUNDS} means little")
    return rounds


def _names() -> str:
    return ", ".join(kind.name for kind in ALL)


def _run(kind: type[Benchmark], servers: Servers, rounds: int) -> Result:
    with ExitStack() as resources:
        return measure(kind(servers, resources), rounds, _say)


def _profile_all(chosen: Sequence[type[Benchmark]], servers: Servers) -> None:
    for kind in chosen:
        print(kind.name)
        with ExitStack() as resources:
            _profile(kind(servers, resources))


def _profile(benchmark: Benchmark) -> None:
    benchmark.ours()
    with cProfile.Profile() as profile:
        benchmark.ours()
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(15)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
