"""The rows of uploaded files, in a table of the context that owns them.

The table of files has `tenant_id`, the owner's id, and the columns of `File`. The table of owners
has `tenant_id`, the same id, `status` and `total_files`. Every change locks the owner before its
files, so that all writers lock in one order. A change applies only while the owner is open.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import sql
from pydantic import BaseModel

from skald.postgres import Transaction
from skald.storage.files import File
from skald.storage.names import ObjectName


class Owner(BaseModel, defer_build=True):
    """The owner of files: its state, and how many files it has."""

    status: str
    total_files: int


class FileTable:
    """The files of one kind of owner, such as a batch; an owner takes files while it is open.

    `files` and `owners` are each schema and table. `owner` is the noun of the owner: the id column
    begins with it, and refusals use it. In the state `open_in` an owner takes up to `most` files.
    """

    def __init__(
        self,
        files: tuple[str, str],
        owners: tuple[str, str],
        *,
        owner: str,
        open_in: str,
        most: int,
    ) -> None:
        self.owner = owner
        self.open_in = open_in
        self.most = most
        self._names = {
            "files": sql.Identifier(*files),
            "owners": sql.Identifier(*owners),
            "id": sql.Identifier(f"{owner}_id"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, File.model_fields)),
        }

    def lock_owner(self, tx: Transaction, owner_id: UUID) -> Owner | None:
        """Return the owner and keep other writers out until the transaction ends."""
        return tx.one(
            Owner,
            self._sql(
                "select status, total_files from {owners}"
                " where tenant_id = %s and {id} = %s for no key update"
            ),
            (tx.tenant_id, owner_id),
        )

    def find(self, tx: Transaction, owner_id: UUID, file_id: UUID) -> File | None:
        return tx.one(
            File,
            self._sql(
                "select {columns} from {files} where tenant_id = %s and {id} = %s and file_id = %s"
            ),
            (tx.tenant_id, owner_id, file_id),
        )

    def all(self, tx: Transaction, owner_id: UUID) -> list[File]:
        """Return the files of an owner, ordered by name."""
        return tx.all(
            File,
            self._sql(
                "select {columns} from {files} where tenant_id = %s and {id} = %s order by name"
            ),
            (tx.tenant_id, owner_id),
        )

    def absent(self, tx: Transaction, owner_id: UUID) -> list[File]:
        """Return the files of an open owner that have not arrived in S3 yet, ordered by name."""
        return tx.all(
            File,
            self._sql(
                """
                select {columns} from {files}
                where tenant_id = %(tenant)s and {id} = %(owner)s and arrived_at is null
                  and exists (select from {owners}
                              where tenant_id = %(tenant)s and {id} = %(owner)s
                                and status = %(open)s)
                order by name
                """
            ),
            self._of(tx, owner_id),
        )

    def add(self, tx: Transaction, name: ObjectName, size: int | None) -> File | None:
        """Add a file to an open owner, or return the one that was added under this name before.

        None when the owner takes no files and has none of this name.
        """
        added = tx.one(
            File,
            self._sql(
                """
                with owner as (
                    select tenant_id, {id} from {owners}
                    where tenant_id = %(tenant)s and {id} = %(owner)s and status = %(open)s
                    for no key update
                )
                insert into {files} (tenant_id, {id}, file_id, name, key, size)
                select tenant_id, {id}, %(file)s, %(name)s, %(key)s, %(size)s from owner
                on conflict do nothing
                returning {columns}
                """
            ),
            self._of(tx, name.owner_id)
            | {"file": name.file_id, "name": name.name, "key": name.key, "size": size},
        )
        if added is None:
            return self.find(tx, name.owner_id, name.file_id)
        tx.execute(
            self._sql(
                "update {owners} set total_files = total_files + 1"
                " where tenant_id = %s and {id} = %s"
            ),
            (tx.tenant_id, name.owner_id),
        )
        return added

    def start_upload(
        self,
        tx: Transaction,
        owner_id: UUID,
        file_id: UUID,
        *,
        upload_id: str,
        size: int,
        instead_of: str | None,
    ) -> bool:
        """Store the id of a file's new upload in place of `instead_of`, the id seen before.

        Returns False if another request has stored an id since, or if the file has arrived.
        """
        return tx.changed(
            self._sql(
                "update {files} set upload_id = %s, size = %s"
                " where tenant_id = %s and {id} = %s and file_id = %s"
                " and arrived_at is null and upload_id is not distinct from %s"
            ),
            (upload_id, size, tx.tenant_id, owner_id, file_id, instead_of),
        )

    def mark_arrived(self, tx: Transaction, owner_id: UUID, sizes: Mapping[UUID, int]) -> int:
        """Mark files of an open owner as arrived in S3; returns how many were marked.

        A repetition keeps the time of the first arrival and stores the size of the last.
        """
        return tx.execute(
            self._sql(
                """
                with owner as (
                    select tenant_id, {id} from {owners}
                    where tenant_id = %(tenant)s and {id} = %(owner)s and status = %(open)s
                    for no key update
                )
                update {files} as file
                set arrived_at = coalesce(file.arrived_at, clock_timestamp()), size = stored.size
                from owner, unnest(%(files)s::uuid[], %(sizes)s::bigint[]) as stored (file_id, size)
                where file.tenant_id = owner.tenant_id and file.{id} = owner.{id}
                  and file.file_id = stored.file_id
                """
            ),
            self._of(tx, owner_id) | {"files": list(sizes), "sizes": list(sizes.values())},
        ).rowcount

    def _sql(self, text: str) -> str:
        return sql.SQL(text).format(**self._names).as_string()

    def _of(self, tx: Transaction, owner_id: UUID) -> dict[str, Any]:
        return {"tenant": tx.tenant_id, "owner": owner_id, "open": self.open_in}
