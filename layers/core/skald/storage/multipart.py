"""Multipart uploads directly to S3, resumable by part (V-02). This module changes no rows."""

from contextlib import suppress

from skald.aws import client
from skald.errors import Conflict
from skald.storage.files import PARTS_PER_ANSWER, File, Part, Upload, part_sizes
from skald.storage.objects import UPLOADS, URL_SECONDS


class UploadGone(Conflict):
    """S3 does not know the upload: it expired, was aborted, or never began."""

    code = "upload_gone"


def start(key: str) -> str:
    """Start an upload and return its id; the bucket's lifecycle rule ends an unfinished one."""
    return client("s3").create_multipart_upload(Bucket=UPLOADS.name, Key=key)["UploadId"]


def abort(key: str, upload_id: str) -> None:
    """Abort an upload and delete its parts; an upload that has ended is no error."""
    s3 = client("s3")
    with suppress(s3.exceptions.NoSuchUpload):
        s3.abort_multipart_upload(Bucket=UPLOADS.name, Key=key, UploadId=upload_id)


def state(file: File) -> Upload:
    """Return which parts have arrived, and signed URLs for the first missing parts.

    Raises `UploadGone`.
    """
    sizes = dict(enumerate(part_sizes(file.size or 0), start=1))
    arrived = set(sizes) if file.arrived_at else set(_arrived(file))
    missing = [number for number in sizes if number not in arrived]
    return Upload(
        file_id=file.file_id,
        name=file.name,
        parts_total=len(sizes),
        arrived=sorted(arrived),
        missing=[
            Part(number=number, size=sizes[number], url=_url(file, number))
            for number in missing[:PARTS_PER_ANSWER]
        ],
    )


def finish(file: File) -> list[int]:
    """Combine the parts into the object; returns the missing parts, none when the file is whole.

    Raises `UploadGone`, and `Conflict` when S3 refuses the parts as they are.
    """
    if UPLOADS.size(file.key) is not None:
        return []
    tags = _arrived(file)
    expected = range(1, len(part_sizes(file.size or 0)) + 1)
    missing = [number for number in expected if number not in tags]
    if not missing:
        _assemble(file, {number: tags[number] for number in expected})
    return missing


def _assemble(file: File, tags: dict[int, str]) -> None:
    from botocore.exceptions import ClientError

    parts = [{"PartNumber": number, "ETag": tag} for number, tag in tags.items()]
    try:
        client("s3").complete_multipart_upload(
            Bucket=UPLOADS.name,
            Key=file.key,
            UploadId=file.upload_id or "",
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
            raise
        if UPLOADS.size(file.key) is not None:
            return  # Another request has combined the same parts since.
        reason = error.response["Error"].get("Message", "the parts do not fit together")
        raise Conflict(f"S3 refuses the parts: {reason}") from error


def _arrived(file: File) -> dict[int, str]:
    """Return the entity tag of every part in S3, by number; a whole file has all its parts."""
    if file.upload_id is not None:
        s3 = client("s3")
        pages = s3.get_paginator("list_parts").paginate(
            Bucket=UPLOADS.name, Key=file.key, UploadId=file.upload_id
        )
        with suppress(s3.exceptions.NoSuchUpload):
            return {
                part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])
            }
    if UPLOADS.size(file.key) is None:
        raise UploadGone("there is no such upload, or it has expired: register the file again")
    # The object is complete already: only our row, or the answer to the client, was lost.
    return dict.fromkeys(range(1, len(part_sizes(file.size or 0)) + 1), "")


def _url(file: File, number: int) -> str:
    return client("s3").generate_presigned_url(
        "upload_part",
        Params={
            "Bucket": UPLOADS.name,
            "Key": file.key,
            "UploadId": file.upload_id,
            "PartNumber": number,
        },
        ExpiresIn=URL_SECONDS,
    )
