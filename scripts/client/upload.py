"""Uploads files in parts; it resumes an interrupted upload."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import requests

from client.api import TIMEOUT_SECONDS, Client

PARALLEL_PARTS = 4
ATTEMPTS = 4

type OnBytes = Callable[[int], None]


def upload(
    client: Client, batch_id: UUID, path: Path, on_bytes: OnBytes = lambda _: None
) -> dict[str, Any]:
    """Upload one file and complete it; only the missing parts are sent.

    `on_bytes` receives the number of bytes of each part that has arrived. Returns the file.
    """
    state = client.register(batch_id, path.name, path.stat().st_size)
    on_bytes(path.stat().st_size - _missing_bytes(path, state))
    while state["missing"]:
        _send(path, state, on_bytes)
        state = client.parts(batch_id, state["file_id"])
    return client.complete_file(batch_id, state["file_id"])


def _send(path: Path, state: dict[str, Any], on_bytes: OnBytes) -> None:
    def put(part: dict[str, Any]) -> None:
        with path.open("rb") as file:
            file.seek((part["number"] - 1) * state["part_size"])
            body = file.read(part["size"])
        _put(part["url"], body)
        on_bytes(len(body))

    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        list(pool.map(put, state["missing"]))


def _put(url: str, body: bytes) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            requests.put(url, data=body, timeout=TIMEOUT_SECONDS).raise_for_status()
        except requests.RequestException:
            if attempt == ATTEMPTS:
                raise
        else:
            return


def _missing_bytes(path: Path, state: dict[str, Any]) -> int:
    size, part = path.stat().st_size, int(state["part_size"])
    last = int(state["parts_total"])
    arrived = set(state["arrived"])
    sizes = dict.fromkeys(range(1, last), part) | {last: size - part * (last - 1)}
    return sum(bytes_ for number, bytes_ in sizes.items() if number not in arrived)
