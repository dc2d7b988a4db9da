"""The command line of scripts/demo: uploads files through the API and shows their diagnosis."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import requests

from client import display
from client.api import Client, Refused
from client.platform import connect
from client.upload import upload
from fleet import Truth, generate

REPORTS = Path(os.environ["SKALD_ROOT"]) / ".local" / "reports"
SAMPLES = Path(os.environ["SKALD_ROOT"]) / ".local" / "sample-fleet"
PARALLEL_FILES = 4


def main() -> int:
    """Run the demo; return exit code 0 if the batch completed and all planted faults were found."""
    arguments = _parser().parse_args()
    started = float(os.environ.get("SKALD_STARTED", time.time()))
    truth = None if arguments.files else _sample_fleet(arguments)
    paths = _expand(arguments.files) if truth is None else _sample_paths(truth)
    if not paths:
        print("error: there are no files to upload", file=sys.stderr)
        return 2
    stages = {"setup": time.time() - started}
    try:
        client = connect("demo")
        batch_id = client.open_batch(arguments.name)
        stages["upload"] = _upload(client, batch_id, paths)
        client.complete(batch_id)
        display.follow(client, batch_id)
        result = _result(client, batch_id, stages)
    except Refused as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    result["elapsed_s"] = round(time.time() - started, 1)
    missed = display.findings(result, truth)
    if arguments.json:
        print(json.dumps(result))
    return 0 if result["status"] == "completed" and not missed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Upload vehicle logs as one batch and get a diagnosed report. Without files, "
        "a sample fleet with known faults is generated first.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a log, DBC or folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")
    parser.add_argument("--name", default="demo", help="name of the batch")
    parser.add_argument("--seed", type=int, default=7, help="seed of the sample fleet's faults")
    parser.add_argument("--vehicles", type=int, default=6, help="size of the sample fleet")
    parser.add_argument("--bad", action="store_true", help="add files that cannot be parsed")
    return parser


def _sample_fleet(arguments: argparse.Namespace) -> Truth:
    folder = SAMPLES
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    return generate(folder, vehicles=arguments.vehicles, seed=arguments.seed, bad=arguments.bad)


def _sample_paths(truth: Truth) -> list[Path]:
    return [SAMPLES / file.name for file in truth.files]


def _expand(paths: Sequence[Path]) -> list[Path]:
    """Return the given files and the files of given folders.

    Raises `SystemExit` for a file that is missing and for two files of one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in found:
            if not file.is_file():
                if path.is_dir():
                    continue
                raise SystemExit(f"error: there is no file {path}")
            if file.name in files:
                raise SystemExit(f"error: two files are called {file.name}")
            files[file.name] = file
    return list(files.values())


def _upload(client: Client, batch_id: UUID, paths: Sequence[Path]) -> float:
    begun = time.time()
    with (
        display.transfer(sum(path.stat().st_size for path in paths)) as on_bytes,
        ThreadPoolExecutor(PARALLEL_FILES) as pool,
    ):
        list(pool.map(lambda path: upload(client, batch_id, path, on_bytes), paths))
    return time.time() - begun


def _result(client: Client, batch_id: UUID, stages: dict[str, float]) -> dict[str, Any]:
    batch = client.batch(batch_id)
    result: dict[str, Any] = {
        "batch_id": str(batch_id),
        "status": batch["status"],
        "outcome": batch["outcome"],
        "files_total": batch["total_files"],
        "files_parsed": batch["processed_files"] - batch["failed_files"],
        "files_failed": batch["failed_files"],
        "events": 0,
        "errors": 0,
        "top_error_codes": {},
        "charts": [],
        "findings": [],
        "failures": {
            file["name"]: file["reason"] for file in client.files(batch_id) if file["reason"]
        },
        "report_html": None,
    }
    if batch["status"] == "completed":
        report = client.report(batch_id)
        result |= _figures(report) | _download(client, batch_id, report)
        stages |= report["stages"]
    else:
        result["failure"] = batch["failure_detail"]
    return result | {"stages": {stage: round(took, 2) for stage, took in stages.items()}}


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    statistics = report["statistics"]
    return {
        "events": statistics["events"],
        "errors": statistics["errors"],
        "top_error_codes": {
            entry["code"]: entry["total"] for entry in statistics["top_error_codes"]
        },
        "findings": report["diagnosis"]["findings"],
        "unknowns": report["diagnosis"]["unknowns"],
        "summary": report["diagnosis"]["summary"],
        "judged_by": report["judged_by"],
        "path": report["diagnosis"]["path"],
    }


def _download(client: Client, batch_id: UUID, report: dict[str, Any]) -> dict[str, Any]:
    folder = REPORTS / str(batch_id)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(client.report_page(batch_id))
    charts = []
    for name, link in report["chart_urls"].items():
        picture = folder / f"{name}.png"
        picture.write_bytes(requests.get(link, timeout=30).content)
        charts.append(str(picture))
    return {"charts": charts, "report_html": str(page)}


if __name__ == "__main__":
    sys.exit(main())
