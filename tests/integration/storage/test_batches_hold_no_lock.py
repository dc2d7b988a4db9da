"""C-06, V-01: no route, consumer or step of batches calls S3 while it holds a row lock."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import requests
from tests.conftest import Context
from tests.integration.batches import TRACE, Fleet
from tests.integration.conftest import UPLOADS
from tests.integration.support import Client, sqs_event

from batches import consumers, repository, steps
from batches.analysis.diagnosis import diagnose
from batches.domain import BatchStatus, batch_event
from batches.publishing import Gathered, parsed_files
from skald.aws import client
from skald.messaging import Envelope

LOG = b"2025-11-14T04:00:00Z ERROR E1001 battery voltage low\n2025-11-14T04:00:01Z INFO all well\n"
FILES = ["a.log", "b.log"]


class Walk:
    """The life of batches, with the calls to S3 of each entry point."""

    def __init__(self, api: Client, fleet: Fleet, calls: list[str]) -> None:
        self.called: dict[str, set[str]] = {}
        self._api = api
        self._fleet = fleet
        self._calls = calls

    def uploaded(self) -> UUID:
        """A batch of two files: one uploaded in parts, one put directly without a notification."""
        batch_id = UUID(self._api.open_batch())
        path = f"/batches/{batch_id}"
        new = {"name": FILES[0], "size": len(LOG)}
        upload = self._route("register", "POST", f"{path}/files", new)
        requests.put(upload["missing"][0]["url"], data=LOG, timeout=5).raise_for_status()
        file = f"{path}/files/{upload['file_id']}"
        self._route("parts", "GET", f"{file}/parts")
        self._route("complete file", "POST", f"{file}/complete")
        other = self._fleet.name(batch_id, FILES[1])
        self._fleet.do(repository.FILES.add, other, len(LOG))
        client("s3").put_object(Bucket=UPLOADS, Key=other.key, Body=LOG)
        self._route("complete batch", "POST", f"{path}/complete")
        return batch_id

    def arrive(self, batch_id: UUID) -> None:
        found = {"key": self._fleet.name(batch_id, FILES[0]).key, "size": len(LOG)}
        event = {"Records": [{"s3": {"bucket": {"name": UPLOADS}, "object": found}}]}
        self._noted("file_arrived", lambda: consumers.file_arrived(event, Context()))

    def parse(self, batch_id: UUID) -> None:
        for file in FILES:
            message = self._fleet.message(batch_id, file)
            self._deliver("parse_file", consumers.parse_file, message)

    def stop(self, batch_id: UUID) -> None:
        event = batch_event("batch.cancelled", self._fleet.tenant, batch_id, TRACE)
        self._deliver("conduct", consumers.conduct, event)

    def step(self, name: str, batch_id: UUID, **told: Any) -> None:
        ids = {"saga_id": str(batch_id), "batch_id": str(batch_id), "trace_id": TRACE}
        command = ids | {"tenant_id": str(self._fleet.tenant)} | told
        self._noted(name, lambda: getattr(steps, name)(command, Context()))

    def judge(self, batch_id: UUID) -> None:
        """Diagnose without the agents, which never call S3."""
        self._fleet.do(repository.enter, batch_id, BatchStatus.DIAGNOSING)
        files = parsed_files(self._fleet.do(repository.list_files, batch_id))
        gathered = Gathered.model_validate(self._fleet.do(repository.find_statistics, batch_id))
        diagnosis = diagnose(files, gathered.statistics)
        self._fleet.do(repository.save_diagnosis, batch_id, diagnosis.model_dump(mode="json"))

    def read(self, batch_id: UUID) -> None:
        self._route("report", "GET", f"/batches/{batch_id}/report")
        answer = self._noted("page", lambda: self._api("GET", f"/batches/{batch_id}/report.html"))
        assert answer.status == 200

    def _route(self, name: str, method: str, path: str, body: object = None) -> Any:
        answer = self._noted(name, lambda: self._api(method, path, body))
        assert answer.status < 300, answer.text
        return answer.body

    def _deliver(self, name: str, handler: Callable[..., Any], event: Envelope) -> None:
        message = sqs_event(event.model_dump_json())
        answer = self._noted(name, lambda: handler(message, Context()))
        assert answer == {"batchItemFailures": []}

    def _noted[T](self, name: str, work: Callable[[], T]) -> T:
        self._calls.clear()
        answer = work()
        self.called[name] = set(self._calls)
        return answer


@pytest.fixture
def walk(api: Client, fleet: Fleet, pipeline: str, answered: list[str], calls: list[str]) -> Walk:
    """A walk through the lives of the tenant's batches."""
    return Walk(api, fleet, calls)


def test_no_row_lock_waits_for_s3(walk: Walk) -> None:
    """C-06, V-01: the watch fails each of these calls under a lock; this test makes all of them."""
    finished, failed = walk.uploaded(), walk.uploaded()
    walk.arrive(finished)
    for batch_id in (finished, failed):
        walk.step("scatter", batch_id)
        walk.parse(batch_id)
        walk.step("gather", batch_id)
    walk.judge(finished)
    walk.step("publish", finished)
    walk.read(finished)
    walk.step("compensate", failed, error={"Error": "RuntimeError", "Cause": "no luck"})
    walk.stop(failed)
    assert walk.called == {
        "register": {"CreateMultipartUpload", "ListParts"},
        "parts": {"ListParts"},
        "complete file": {"HeadObject", "ListParts", "CompleteMultipartUpload"},
        "complete batch": {"ListObjectsV2"},
        "file_arrived": set(),
        "scatter": set(),
        "parse_file": {
            "GetObject",
            "CreateMultipartUpload",
            "UploadPart",
            "CompleteMultipartUpload",
        },
        "gather": {"GetObject", "PutObject"},
        "publish": {"GetObject", "PutObject"},
        "report": set(),
        "page": {"GetObject"},
        "compensate": {"ListObjectsV2", "DeleteObjects"},
        "conduct": {"ListObjectsV2"},
    }
