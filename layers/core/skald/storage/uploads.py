"""Uploads of files, from registration to arrival, for any context (V-02, C-06).

Calls to S3 happen outside of transactions, so no row lock waits for the network. Each operation
reads the rows, calls S3, then changes the rows only if they are still as they were read. A request
that loses such a race answers with the rows of the winner.
"""

from uuid import UUID

from skald.errors import Conflict, NotFound
from skald.postgres import database
from skald.storage import multipart
from skald.storage.file_table import FileTable
from skald.storage.files import File, NewFile, Upload
from skald.storage.names import ObjectName, prefix
from skald.storage.objects import UPLOADS
from skald.telemetry import logger

MISSING_PARTS_NAMED = 1_000


class Uploads:
    """The files that clients upload for the owners in one context's table.

    Routes call `register`, `state` and `complete`. S3's trigger calls `arrived`. A route that
    closes an owner calls `catch_up` first. Keys of the context's objects begin with its name.
    """

    def __init__(self, context: str, table: FileTable) -> None:
        self._context = context
        self._table = table

    def name(self, tenant_id: UUID, owner_id: UUID, name: str) -> ObjectName:
        """Return the name of an owner's file in S3."""
        return ObjectName(context=self._context, tenant_id=tenant_id, owner_id=owner_id, name=name)

    def register(self, tenant_id: UUID, owner_id: UUID, new: NewFile) -> Upload:
        """Register a file and start its upload, or resume the upload under way.

        Raises `NotFound` if there is no such owner. Raises `Conflict` if the owner takes no more
        files, or if the file is registered with another size.
        """
        name = self.name(tenant_id, owner_id, new.name)
        file = self._take_in(name, new.size)
        if file.arrived_at is None and file.upload_id is None:
            file = self._start(name, file, new.size)
        try:
            return multipart.state(_same(file, new.size))
        except multipart.UploadGone:
            file = self._start(name, file, new.size)
            return multipart.state(_same(file, new.size))

    def state(self, tenant_id: UUID, owner_id: UUID, file_id: UUID) -> Upload:
        """Return which parts of a file have arrived, and signed URLs for the missing parts.

        Raises `NotFound` and `UploadGone`.
        """
        return multipart.state(self._find(tenant_id, owner_id, file_id))

    def complete(self, tenant_id: UUID, owner_id: UUID, file_id: UUID) -> File:
        """Combine the parts of a file; a repetition changes nothing.

        Raises `NotFound`, `UploadGone`, and `Conflict` with the missing parts or the reason why S3
        refuses them.
        """
        file = self._find(tenant_id, owner_id, file_id)
        if file.arrived_at is None:
            if missing := multipart.finish(file):
                raise Conflict(
                    "some parts have not arrived", missing_parts=missing[:MISSING_PARTS_NAMED]
                )
            size = UPLOADS.size(file.key)
            if size is not None:
                with database().transaction(tenant_id) as tx:
                    self._table.mark_arrived(tx, owner_id, {file_id: size})
        return self._find(tenant_id, owner_id, file_id)

    def arrived(self, key: str, size: int) -> None:
        """Mark the file of an object that S3 reports as arrived; register the file if it is new.

        S3 may report an object twice, and late. A key that is not ours, or an owner that takes no
        files, is logged and ignored.
        """
        name = ObjectName.of_key(key)
        if name is None or name.context != self._context:
            logger.warning("object ignored: its key names no owner", extra={"key": key})
            return
        with database().transaction(name.tenant_id) as tx:
            is_known = self._table.add(tx, name, size) is not None
            stored = {name.file_id: size}
            if not is_known or not self._table.mark_arrived(tx, name.owner_id, stored):
                logger.warning("object ignored: nothing waits for it", extra={"key": key})

    def catch_up(self, tenant_id: UUID, owner_id: UUID) -> None:
        """Look in S3 for files whose notification is missing; one call per thousand objects."""
        with database().transaction(tenant_id) as tx:
            absent = self._table.absent(tx, owner_id)
        if not absent:
            return
        stored = UPLOADS.sizes(prefix(self._context, tenant_id, owner_id))
        if found := {file.file_id: stored[file.key] for file in absent if file.key in stored}:
            with database().transaction(tenant_id) as tx:
                self._table.mark_arrived(tx, owner_id, found)

    def _take_in(self, name: ObjectName, size: int) -> File:
        table = self._table
        with database().transaction(name.tenant_id) as tx:
            owner = self._found(table.lock_owner(tx, name.owner_id))
            if owner.status != table.open_in:
                raise Conflict(f"the {table.owner} is {owner.status}, it takes no more files")
            known = table.find(tx, name.owner_id, name.file_id)
            if known is None and owner.total_files >= table.most:
                raise Conflict(
                    f"a {table.owner} holds at most {table.most} files", code="too_many_files"
                )
            return known or self._found(table.add(tx, name, size))

    def _start(self, name: ObjectName, seen: File, size: int) -> File:
        """Start an upload of a file, or return the one that another request has started."""
        upload_id = multipart.start(name.key)
        with database().transaction(name.tenant_id) as tx:
            is_ours = self._table.start_upload(
                tx,
                name.owner_id,
                seen.file_id,
                upload_id=upload_id,
                size=size,
                instead_of=seen.upload_id,
            )
            file = self._found(self._table.find(tx, name.owner_id, seen.file_id))
        if not is_ours:
            multipart.abort(name.key, upload_id)
        return file

    def _find(self, tenant_id: UUID, owner_id: UUID, file_id: UUID) -> File:
        with database().transaction(tenant_id) as tx:
            return self._found(self._table.find(tx, owner_id, file_id))

    def _found[T](self, thing: T | None) -> T:
        if thing is None:
            raise NotFound(f"no such {self._table.owner} or file")
        return thing


def _same(file: File, size: int) -> File:
    """Return the file; raises `Conflict` if it is registered with another size."""
    if file.size != size:
        raise Conflict(f"{file.name} is registered with {file.size} bytes", registered=file.size)
    return file
