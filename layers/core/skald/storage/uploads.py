"""The way of a file from its registration to its arrival, for any context (V-02, C-06).

S3 is asked outside of transactions, so no row lock waits for the network: look at the rows, talk to
S3, then change the rows where they are still as they were seen. A request that
loses such a race answers with what the winner left.
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

    Routes call `register`, `state` and `complete`, S3's trigger calls `arrived`, and what closes an
    owner calls `catch_up` first. Objects of the context have keys that begin with its name.
    """

    def __init__(self, context: str, table: FileTable) -> None:
        self._context = context
        self._table = table

    def name(self, tenant_id: UUID, owner_id: UUID, name: str) -> ObjectName:
        """Return what a file of an owner is called in S3."""
        return ObjectName(context=self._context, tenant_id=tenant_id, owner_id=owner_id, name=name)

    def register(self, tenant_id: UUID, owner_id: UUID, new: NewFile) -> Upload:
        """Register a file and start its upload, or resume the one under way.

        Raises `NotFound` where there is no such owner, and `Conflict` when the owner takes no more
        files or knows the file with another size.
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
        """Return which parts of a file have arrived, and signed URLs for those that have not.

        Raises `NotFound` and `UploadGone`.
        """
        return multipart.state(self._find(tenant_id, owner_id, file_id))

    def complete(self, tenant_id: UUID, owner_id: UUID, file_id: UUID) -> File:
        """Put the parts of a file together; doing it again changes nothing.

        Raises `NotFound`, `UploadGone`, and `Conflict` that names the missing parts or says why S3
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
        """Note an object that S3 tells of, by its key alone: its file is registered or not yet.

        S3 may tell twice, and late; a key that is not ours, or an owner that takes no files, is
        logged and ignored.
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
        """Ask S3 about the files whose notification has not come; one call a thousand objects."""
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
        """Start an upload of a file, or give way to the one that another request has started."""
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
    """Return the file, which must have been registered with this size."""
    if file.size != size:
        raise Conflict(f"{file.name} is registered with {file.size} bytes", registered=file.size)
    return file
