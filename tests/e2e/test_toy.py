"""X-09: a context made of its own files works in the deployed stack."""

from typing import Any

import requests
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

TEXT = b"the pump is stuck\nand warm"


def test_a_new_context_works_from_route_to_result(skald: Deployment, tenant: Tenant) -> None:
    """X-09: a note is created, its file uploaded, its event consumed, and its saga counts it."""

    def call(method: str, path: str, **options: Any) -> Any:
        return tenant.client.call(method, path, **options).json()

    note = call("POST", "/notes", headers={"Idempotency-Key": "note-1"})
    path = f"/notes/{note['note_id']}"
    upload = call("POST", f"{path}/files", json={"name": "note.txt", "size": len(TEXT)})
    [part] = upload["missing"]
    requests.put(part["url"], data=TEXT, timeout=60).raise_for_status()
    assert call("POST", f"{path}/files/{upload['file_id']}/complete")["arrived_at"]
    assert call("POST", f"{path}/close")["status"] in ("closed", "counted")
    counted = wait_for("the count", lambda: _counted(call("GET", path)))
    assert counted["words"] == 6
    saga = call("GET", f"/sagas/{note['note_id']}")
    assert (saga["kind"], saga["status"]) == ("note_count", "completed")
    assert [event["event_type"] for event in saga["events"]] == ["note.closed", "note.counted"]
    assert "/notes/{note_id}/close" in call("GET", "/openapi.json")["paths"]


def _counted(note: dict[str, Any]) -> dict[str, Any] | None:
    return note if note["status"] == "counted" else None
