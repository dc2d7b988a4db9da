"""Runs the real handler of the diagnosis in a process: `backlog.py FOLDER`.

A file in `waiting` is a message. A process receives it when it renames it into `taken`, deletes it
when it is done, and renames it back to return it. POSTGRES_DSN, REDIS_DSN and MODEL are in the
environment.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from botocore.client import BaseClient
from tests.conftest import Context
from tests.integration.crash.aws import FolderAws
from tests.integration.support import sqs_event

from batches.diagnosing import diagnose


def take(folder: Path) -> Iterator[Path]:
    """Receive message after message, until none is left."""
    while waiting := list((folder / "waiting").iterdir()):
        for message in waiting:
            taken = folder / "taken" / f"{os.getpid()} {message.name}"
            with suppress(FileNotFoundError):
                yield message.rename(taken)


def give_back(folder: Path, taken: Path) -> None:
    taken.rename(folder / "waiting" / taken.name.partition(" ")[2])


def work(folder: Path) -> None:
    aws = FolderAws(folder)

    def call(_: BaseClient, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return aws(operation, parameters)

    cast(Any, BaseClient)._make_api_call = call
    for message in take(folder):
        if diagnose(sqs_event(message.read_text()), Context())["batchItemFailures"]:
            give_back(folder, message)
        else:
            message.unlink()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
