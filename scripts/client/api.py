"""A client of the HTTP API of batches, with one method per call."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

TIMEOUT_SECONDS = 60


class Refused(Exception):
    """The API answered with a problem document."""

    def __init__(self, response: requests.Response) -> None:
        try:
            self.problem: dict[str, Any] = response.json()
        except ValueError:
            self.problem = {"detail": response.text[:500]}
        self.status = response.status_code
        what = f"{response.request.method} {response.request.path_url}"
        super().__init__(f"{what}: {self.status} {self.problem.get('detail')}")


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


class Client:
    """Calls the API at `base_url` with one tenant's key; it retries connection errors."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._base_url = base_url
        self.session = requests.Session()
        self.session.headers["X-Api-Key"] = api_key
        # Every call is safe to repeat: it is idempotent, or it has an idempotency key.
        retry = Retry(
            total=4, backoff_factor=0.2, status_forcelist=(429, 503), allowed_methods=None
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=16))

    def open_batch(self, name: str, **options: Any) -> UUID:
        batch = self._object(
            "POST",
            "/batches",
            json={"name": name, **options},
            headers={"Idempotency-Key": str(uuid4())},
        )
        return UUID(batch["batch_id"])

    def batch(self, batch_id: UUID) -> dict[str, Any]:
        return self._object("GET", f"/batches/{batch_id}")

    def register(self, batch_id: UUID, name: str, size: int) -> dict[str, Any]:
        return self._object("POST", f"/batches/{batch_id}/files", json={"name": name, "size": size})

    def parts(self, batch_id: UUID, file_id: str) -> dict[str, Any]:
        return self._object("GET", f"/batches/{batch_id}/files/{file_id}/parts")

    def complete_file(self, batch_id: UUID, file_id: str) -> dict[str, Any]:
        return self._object("POST", f"/batches/{batch_id}/files/{file_id}/complete")

    def files(self, batch_id: UUID) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = self._json("GET", f"/batches/{batch_id}/files")
        return files

    def complete(self, batch_id: UUID) -> dict[str, Any]:
        return self._object("POST", f"/batches/{batch_id}/complete")

    def cancel(self, batch_id: UUID) -> dict[str, Any]:
        return self._object("POST", f"/batches/{batch_id}/cancel")

    def report(self, batch_id: UUID) -> dict[str, Any]:
        return self._object("GET", f"/batches/{batch_id}/report")

    def report_page(self, batch_id: UUID) -> str:
        return self.call("GET", f"/batches/{batch_id}/report.html").text

    def progress(self, batch_id: UUID) -> Iterator[Event]:
        """Yield the progress events of a batch until it ends."""
        return self._follow(f"/batches/{batch_id}/progress")

    def diagnosis(self, batch_id: UUID) -> Iterator[Event]:
        """Yield the events of the agents until their diagnosis ends."""
        return self._follow(f"/batches/{batch_id}/diagnosis/stream")

    def stream_ticket(self, batch_id: UUID) -> str:
        return str(self._object("POST", f"/batches/{batch_id}/stream-ticket")["ticket"])

    def live_page(self, batch_id: UUID) -> str:
        """Return the address of a page that shows the batch live, until its ticket expires."""
        return f"{self._base_url}/live#{batch_id}&{self.stream_ticket(batch_id)}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return the response; raises `Refused` unless it is a success."""
        options.setdefault("timeout", TIMEOUT_SECONDS)
        response = self.session.request(method, self._base_url + path, **options)
        if not response.ok:
            raise Refused(response)
        return response

    def _follow(self, path: str) -> Iterator[Event]:
        """Read a stream to its end; reconnect with the id of the last event."""
        last: dict[str, str] = {}
        while True:
            response = self.call("GET", path, headers=last)
            if response.status_code == requests.codes.no_content:
                return
            for event in _events(response.text):
                last = {"Last-Event-ID": event.id}
                yield event

    def _json(self, method: str, path: str, **options: Any) -> Any:
        return self.call(method, path, **options).json()

    def _object(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._json(method, path, **options)
        return answer


def _events(stream: str) -> Iterator[Event]:
    for block in stream.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
