"""What tests do with batches through the public API, and what holds for each completed batch."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import requests
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

STATES = [
    "pending",
    "uploaded",
    "scattering",
    "scattered",
    "gathering",
    "gathered",
    "diagnosing",
    "completed",
]


def lines(count: int, errors: int = 0) -> bytes:
    """Return a text log of this many lines. The first of them are errors with the code E4711."""
    levels = ["ERROR"] * errors + ["INFO"] * (count - errors)
    words = {"ERROR": "E4711 PUMP_STUCK pump does not turn", "INFO": "pump turns"}
    return "".join(
        f"2025-11-14T02:{second // 60 % 60:02d}:{second % 60:02d}.000Z {level:<5} pump: "
        f"{words[level]}\n"
        for second, level in enumerate(levels)
    ).encode()


def send(tenant: Tenant, batch_id: UUID, name: str, data: bytes) -> dict[str, Any]:
    """Upload a file and complete it. Returns the file."""
    state = tenant.client.register(batch_id, name, len(data))
    for part in state["missing"]:
        start = (part["number"] - 1) * state["part_size"]
        body = data[start : start + part["size"]]
        requests.put(part["url"], data=body, timeout=60).raise_for_status()
    return tenant.client.complete_file(batch_id, state["file_id"])


def open_batch(tenant: Tenant, files: Mapping[str, bytes], **options: Any) -> UUID:
    """Open a batch and upload its files. The batch is still pending."""
    batch_id = tenant.client.open_batch("test", **options)
    for name, data in files.items():
        send(tenant, batch_id, name, data)
    return batch_id


def status(tenant: Tenant, batch_id: UUID) -> str:
    return str(tenant.client.batch(batch_id)["status"])


def wait_until_ended(tenant: Tenant, batch_id: UUID, seconds: float = 180.0) -> dict[str, Any]:
    """Wait for a final state and return the batch."""

    def look() -> dict[str, Any] | None:
        batch = tenant.client.batch(batch_id)
        return batch if batch["status"] in ("completed", "failed") else None

    return wait_for(f"end of batch {batch_id}", look, seconds)


def wait_until_parsing(skald: Deployment, batch_id: UUID) -> None:
    """Wait until the pipeline waits for the files: tasks exist, the token is stored."""
    kept = "select 1 from skald.fanouts where saga_id = %s and token is not null"
    wait_for("token of the pipeline", lambda: skald.sql(kept, str(batch_id)))

    def waits() -> bool:
        submitted = skald.history(batch_id, "taskSubmittedEventDetails")
        return any(task["resource"].endswith(".waitForTaskToken") for task in submitted)

    wait_for("pipeline that waits for its files", waits)


def answer_token(skald: Deployment, batch_id: UUID) -> None:
    """Answer the token of a pipeline that waits for its files."""
    rows = skald.sql("select token from skald.fanouts where saga_id = %s", str(batch_id))
    skald.client("stepfunctions").send_task_success(taskToken=rows[0]["token"], output="{}")


def tasks(skald: Deployment, batch_id: UUID) -> dict[str, dict[str, Any]]:
    """Return the tasks of a batch by the name of their file."""
    rows = skald.sql(
        """
        select file.name, task.task_id, task.status, task.attempts, task.reason,
               task.result as features
        from skald.task_executions as task
        join batches.files as file
            on file.tenant_id = task.tenant_id and file.file_id::text = task.task_id
        where task.name = 'parse' and file.batch_id = %s
        """,
        batch_id,
    )
    return {row["name"]: row for row in rows}


def events_by_file(report: dict[str, Any]) -> dict[str, int]:
    """Return how many events each file of a report has."""
    return {row["name"]: row["events"] for row in report["statistics"]["files"]}


def dead_letters(skald: Deployment, tenant: Tenant) -> list[str]:
    """Return the sources of the tenant's dead letters."""
    rows = skald.sql(
        "select source from skald.dead_letters where tenant_id = %s order by dead_letter_id",
        tenant.tenant_id,
    )
    return [row["source"] for row in rows]


def assert_ended_once(
    skald: Deployment, tenant: Tenant, batch_id: UUID, *, events: Mapping[str, int]
) -> dict[str, Any]:
    """Assert what must hold for every completed batch, after any failure on its way.

    `events` are the right counts of its files, 0 for a failed file. There is one report, one
    successful pipeline, one `batch.completed` event and nothing left in the outbox. Each state was
    entered once. Returns the report.
    """
    batch = wait_until_ended(tenant, batch_id)
    assert batch["status"] == "completed", batch
    report = tenant.client.report(batch_id)
    assert events_by_file(report) == dict(events)
    assert report["statistics"]["events"] == sum(events.values())
    assert batch["processed_files"] == batch["total_files"] == len(events)
    assert batch["failed_files"] == report["statistics"]["files_failed"]
    assert batch["outcome"] == ("partial" if batch["failed_files"] else "complete")
    reports = skald.sql("select 1 from batches.reports where batch_id = %s", batch_id)
    assert len(reports) == 1
    assert skald.executions(batch_id) == 1
    wait_for("pipeline that has ended", lambda: skald.execution(batch_id)["status"] != "RUNNING")
    assert skald.execution(batch_id)["status"] == "SUCCEEDED"
    assert_states_once(skald, batch_id)
    assert_told_once(skald, batch, "batch.completed")
    return report


def assert_states_once(skald: Deployment, batch_id: UUID) -> None:
    """Assert that a completed batch went through all its states, each once."""
    changes = skald.sql(
        "select version, status, processed_files from batches.progress"
        " where batch_id = %s order by version",
        batch_id,
    )
    entered = [
        change["status"]
        for before, change in zip([None, *changes], changes, strict=False)
        if before is None or before["status"] != change["status"]
    ]
    assert entered == STATES
    processed = [change["processed_files"] for change in changes]
    assert processed == sorted(processed)


def assert_told_once(skald: Deployment, batch: dict[str, Any], event_type: str) -> None:
    """Assert that one event of this type was sent, with the batch's trace, and none waits.

    Queues deliver at least once, so the event may be there twice with the same id.
    """
    batch_id = UUID(batch["batch_id"])
    wait_for(f"{event_type} of {batch_id}", lambda: skald.events(batch_id, event_type))
    wait_for("outbox without unsent rows", lambda: not unsent(skald, batch_id))
    told = skald.events(batch_id, event_type)
    assert len({event["event_id"] for event in told}) == 1
    assert {event["trace_id"] for event in told} == {batch["trace_id"]}
    rows = skald.sql(
        "select 1 from skald.outbox where event_type = %s and correlation_id = %s",
        event_type,
        str(batch_id),
    )
    assert len(rows) == 1


def unsent(skald: Deployment, batch_id: UUID) -> list[dict[str, Any]]:
    """Return the events of a batch that are still in the outbox."""
    return skald.sql(
        "select event_type, status from skald.outbox"
        " where correlation_id = %s and status <> 'published'",
        str(batch_id),
    )
