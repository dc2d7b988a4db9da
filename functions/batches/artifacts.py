"""The keys of the artifacts of a batch in S3, derived from ids."""

from uuid import UUID

from batches.domain import CONTEXT
from skald.storage import names


def prefix(tenant_id: UUID, batch_id: UUID) -> str:
    return names.prefix(CONTEXT, tenant_id, batch_id)


def tables_prefix(tenant_id: UUID, batch_id: UUID, file_id: UUID | str) -> str:
    return f"{prefix(tenant_id, batch_id)}tables/{file_id}/"


def chart_key(tenant_id: UUID, batch_id: UUID, name: str) -> str:
    return f"{prefix(tenant_id, batch_id)}charts/{name}.png"


def page_key(tenant_id: UUID, batch_id: UUID) -> str:
    return f"{prefix(tenant_id, batch_id)}report.html"
