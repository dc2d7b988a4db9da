"""Delivers parse jobs directly, in the order and as often as a test wants."""

from typing import Any
from uuid import UUID

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Answer, Deployment
from tests.e2e.payloads import payload


def job(skald: Deployment, tenant: Tenant, batch_id: UUID, name: str) -> Any:
    """Return the event that delivers the parse job of a file."""
    task = flows.tasks(skald, batch_id)[name]
    return payload("parse_file", tenant.tenant_id, batch_id, file_id=task["task_id"])


def delivered(skald: Deployment, tenant: Tenant, batch_id: UUID, name: str) -> Answer:
    """Deliver a parse job and return the result."""
    return skald.invoke("ParseFile", job(skald, tenant, batch_id, name))


def deliver(skald: Deployment, tenant: Tenant, batch_id: UUID, name: str) -> None:
    """Deliver a parse job; it must succeed."""
    answer = delivered(skald, tenant, batch_id, name)
    assert answer.payload == {"batchItemFailures": []}, answer


def scatter(skald: Deployment, tenant: Tenant, batch_id: UUID) -> None:
    """Complete a batch and scatter it; its pipeline is held back and then finds this step done."""
    trace_id = tenant.client.complete(batch_id)["trace_id"]
    event = payload("scatter", tenant.tenant_id, batch_id, trace_id=trace_id)
    answer = skald.invoke("Scatter", event)
    assert answer.error is None, answer
