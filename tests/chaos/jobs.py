"""Jobs delivered by hand, in the order and as often as a test wants."""

from typing import Any
from uuid import UUID

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment
from tests.e2e.payloads import payload

VISIBILITY_SECONDS = 6
"""How long a job may take here before it is delivered again."""


def job(skald: Deployment, tenant: Tenant, batch_id: UUID, name: str) -> Any:
    """Return the event that delivers the parse job of a file."""
    task = flows.tasks(skald, batch_id)[name]
    return payload("parse_file", tenant.tenant_id, batch_id, file_id=str(task["file_id"]))


def deliver(skald: Deployment, tenant: Tenant, batch_id: UUID, name: str) -> None:
    """Deliver a parse job; it must be taken without complaint."""
    answer = skald.invoke("ParseFile", job(skald, tenant, batch_id, name))
    assert answer.payload == {"batchItemFailures": []}, answer
