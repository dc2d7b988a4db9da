"""What the pipeline makes of a batch, in S3 under names derived from it."""

from uuid import UUID

from skald.aws import client
from skald.config import required

URL_SECONDS = 3_600


def bucket() -> str:
    """Return the bucket that only the pipeline writes to."""
    return required("ARTIFACTS_BUCKET")


def prefix(tenant_id: UUID, batch_id: UUID) -> str:
    return f"{tenant_id}/{batch_id}/"


def tables_prefix(tenant_id: UUID, batch_id: UUID, file_id: UUID | str) -> str:
    return f"{prefix(tenant_id, batch_id)}tables/{file_id}/"


def chart_key(tenant_id: UUID, batch_id: UUID, name: str) -> str:
    return f"{prefix(tenant_id, batch_id)}charts/{name}.png"


def page_key(tenant_id: UUID, batch_id: UUID) -> str:
    return f"{prefix(tenant_id, batch_id)}report.html"


def write(key: str, body: bytes, content_type: str) -> None:
    client("s3").put_object(Bucket=bucket(), Key=key, Body=body, ContentType=content_type)


def read(key: str) -> bytes | None:
    """Return an artifact's bytes, None where there is no such artifact."""
    s3 = client("s3")
    try:
        return s3.get_object(Bucket=bucket(), Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None


def url(key: str) -> str:
    """Return a link to an artifact that works for an hour."""
    return client("s3").generate_presigned_url(
        "get_object", Params={"Bucket": bucket(), "Key": key}, ExpiresIn=URL_SECONDS
    )


def delete_all(key_prefix: str) -> None:
    """Delete every artifact below a prefix; none is fine too."""
    pages = (
        client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix=key_prefix)
    )
    for page in pages:
        keys = [entry["Key"] for entry in page.get("Contents", [])]
        if keys:
            client("s3").delete_objects(
                Bucket=bucket(), Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
