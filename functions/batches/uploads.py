"""Multipart uploads straight to S3, resumable part by part (V-02)."""

from batches.domain import PARTS_PER_ANSWER, File, Part, Upload, part_sizes
from skald.aws import client
from skald.config import required
from skald.errors import Conflict

URL_SECONDS = 3_600


class UploadGone(Conflict):
    """S3 does not know the upload any more: it expired, or was aborted."""

    code = "upload_gone"


def bucket() -> str:
    """Return the bucket that clients upload to."""
    return required("UPLOADS_BUCKET")


def start(key: str) -> str:
    """Start a multipart upload and return its id; one never finished expires with the bucket's
    lifecycle rule."""
    return client("s3").create_multipart_upload(Bucket=bucket(), Key=key)["UploadId"]


def state(file: File) -> Upload:
    """Return which parts have arrived, and signed URLs for the first of the missing ones.

    Raises `UploadGone`.
    """
    sizes = dict(enumerate(part_sizes(file.size or 0), start=1))
    arrived = sorted(sizes) if file.arrived_at else sorted(_arrived(file))
    missing = [number for number in sizes if number not in set(arrived)]
    return Upload(
        file_id=file.file_id,
        name=file.name,
        parts_total=len(sizes),
        arrived=arrived,
        missing=[
            Part(number=number, size=sizes[number], url=_url(file, number))
            for number in missing[:PARTS_PER_ANSWER]
        ],
    )


def finish(file: File) -> list[int]:
    """Put the parts together; returns the parts still missing, none when the file is whole.

    Raises `UploadGone`, and `Conflict` when S3 refuses the parts as they are.
    """
    from botocore.exceptions import ClientError

    if file.upload_id is None or stored_size(file.key) is not None:
        return []
    tags = _arrived(file)
    expected = range(1, len(part_sizes(file.size or 0)) + 1)
    if missing := [number for number in expected if number not in tags]:
        return missing
    parts = [{"PartNumber": number, "ETag": tags[number]} for number in expected]
    try:
        client("s3").complete_multipart_upload(
            Bucket=bucket(),
            Key=file.key,
            UploadId=file.upload_id,
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise
        reason = error.response["Error"].get("Message", "the parts do not fit together")
        raise Conflict(f"S3 refuses the parts: {reason}") from error
    return []


def stored_size(key: str) -> int | None:
    """Return the bytes of an uploaded object, None while there is none."""
    from botocore.exceptions import ClientError

    try:
        return client("s3").head_object(Bucket=bucket(), Key=key)["ContentLength"]
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise


def _arrived(file: File) -> dict[int, str]:
    """Return the entity tag of every part S3 holds, by number."""
    if file.upload_id is None:
        return {}
    s3 = client("s3")
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket(), Key=file.key, UploadId=file.upload_id
    )
    try:
        return {
            part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])
        }
    except s3.exceptions.NoSuchUpload as error:
        if stored_size(file.key) is not None:
            # Put together already: only our note of it, or the answer, got lost.
            return dict.fromkeys(range(1, len(part_sizes(file.size or 0)) + 1), "")
        raise UploadGone("the upload has expired: register the file again") from error


def _url(file: File, number: int) -> str:
    return client("s3").generate_presigned_url(
        "upload_part",
        Params={
            "Bucket": bucket(),
            "Key": file.key,
            "UploadId": file.upload_id,
            "PartNumber": number,
        },
        ExpiresIn=URL_SECONDS,
    )
