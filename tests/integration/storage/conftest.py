"""The files of a second product: submissions of exams, in their own tables."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from skald.postgres import Database
from skald.storage.file_table import FileTable
from skald.storage.files import File
from skald.storage.uploads import Uploads

TABLE = FileTable(
    ("exams", "sheets"), ("exams", "submissions"), owner="submission", open_in="open", most=50
)
UPLOADS = Uploads("exams", TABLE)


class Submissions:
    """The submissions of one tenant."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self.database = database
        self.tenant = tenant

    def open(self) -> UUID:
        submission_id = uuid4()
        with self.database.transaction(self.tenant) as tx:
            tx.execute(
                "insert into exams.submissions (tenant_id, submission_id) values (%s, %s)",
                (self.tenant, submission_id),
            )
        return submission_id

    def close(self, submission_id: UUID) -> None:
        with self.database.transaction(self.tenant) as tx:
            tx.execute(
                "update exams.submissions set status = 'closed' where submission_id = %s",
                (submission_id,),
            )

    def count(self, submission_id: UUID) -> int:
        with self.database.transaction(self.tenant) as tx:
            owner = TABLE.lock_owner(tx, submission_id)
        assert owner is not None
        return owner.total_files

    def file(self, submission_id: UUID, name: str) -> File | None:
        with self.database.transaction(self.tenant) as tx:
            return TABLE.find(tx, submission_id, self.file_id(submission_id, name))

    def file_id(self, submission_id: UUID, name: str) -> UUID:
        return UPLOADS.name(self.tenant, submission_id, name).file_id


@pytest.fixture(scope="module")
def exams(migrator_database: Database) -> Iterator[None]:
    """The tables of the second product."""
    with migrator_database.transaction(None) as tx:
        tx.execute("create schema exams")
        tx.execute("grant usage on schema exams to skald_app")
        tx.execute(
            """
            create table exams.submissions (
                tenant_id uuid not null, submission_id uuid not null,
                status text not null default 'open', total_files integer not null default 0,
                primary key (tenant_id, submission_id))
            """
        )
        tx.execute(
            """
            create table exams.sheets (
                tenant_id uuid not null, submission_id uuid not null, file_id uuid not null,
                name text not null, key text not null, size bigint, upload_id text,
                arrived_at timestamptz,
                primary key (tenant_id, submission_id, file_id),
                foreign key (tenant_id, submission_id) references exams.submissions)
            """
        )
        for table in ("submissions", "sheets"):
            tx.execute(f"call skald.isolate_tenants('exams.{table}')")
            tx.execute(f"grant select, insert, update on exams.{table} to skald_app")
    yield
    with migrator_database.transaction(None) as tx:
        tx.execute("drop schema exams cascade")


@pytest.fixture
def submissions(exams: None, aws: None, database: Database, tenant: UUID) -> Submissions:
    """The tenant's submissions."""
    return Submissions(database, tenant)
