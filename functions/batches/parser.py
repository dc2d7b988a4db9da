"""Runs a parser on a stored file: bytes from the upload bucket, tables to the artifacts bucket."""

import os
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from batches import artifacts
from batches.domain import ParseJob
from batches.features import Features
from batches.parsing import Rejected, S3Sink, S3Source, is_database, parse, read_database
from skald.aws import client
from skald.storage.files import File
from skald.storage.objects import ARTIFACTS, UPLOADS

MAX_FILE_BYTES = 2 * 1024**3


def parse_stored(tenant_id: UUID, job: ParseJob, files: Sequence[File]) -> Features | str:
    """Return the features of the file, or the reason why it cannot be parsed."""
    file = next(file for file in files if file.file_id == job.file_id)
    limit = int(os.environ.get("MAX_FILE_BYTES", MAX_FILE_BYTES))
    prefix = artifacts.tables_prefix(tenant_id, job.batch_id, job.file_id)
    try:
        with S3Sink(client("s3"), ARTIFACTS.name, prefix) as sink:
            return parse(_source(file), sink, _databases(files), max_bytes=limit)
    except Rejected as rejection:
        ARTIFACTS.delete_all(prefix)
        return str(rejection)


def _databases(files: Sequence[File]) -> dict[str, str]:
    """Return the text of every valid DBC file by name; the tasks of the others reject them."""
    texts: dict[str, str] = {}
    for file in files:
        if is_database(b"", file.name):
            with suppress(Rejected):
                texts[file.name] = read_database(_source(file))
    return texts


def _source(file: File) -> S3Source:
    return S3Source(client("s3"), UPLOADS.name, file.key, file.size or 0, file.name)
