"""V-02, C-06, V-14: uploads of a second context with its own tables, also in races."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
import requests
from botocore.exceptions import ClientError
from tests.integration.s3_watch import S3Watch
from tests.integration.storage.conftest import TABLE, UPLOADS, Submissions
from tests.integration.support import together

from skald.aws import client
from skald.errors import Conflict, NotFound
from skald.storage import multipart
from skald.storage.files import PART_BYTES, NewFile, Upload
from skald.storage.multipart import UploadGone
from skald.storage.objects import UPLOADS as BUCKET

BODY = b"12345"
NAME = "sheet 1.pdf"


def register(submissions: Submissions, owner: UUID, size: int = len(BODY)) -> Upload:
    return UPLOADS.register(submissions.tenant, owner, NewFile(name=NAME, size=size))


def send(upload: Upload, body: bytes = BODY) -> None:
    """PUT the missing parts, as a client does."""
    for part in upload.missing:
        piece = body[(part.number - 1) * PART_BYTES :][: part.size]
        assert requests.put(part.url, data=piece, timeout=5).status_code == 200


def complete(submissions: Submissions, owner: UUID) -> datetime | None:
    file_id = submissions.file_id(owner, NAME)
    return UPLOADS.complete(submissions.tenant, owner, file_id).arrived_at


def key_of(submissions: Submissions, owner: UUID) -> str:
    return UPLOADS.name(submissions.tenant, owner, NAME).key


def pending(owner: UUID) -> list[str]:
    """Return the ids of the uploads that S3 has for the files of an owner."""
    found = client("s3").list_multipart_uploads(Bucket=BUCKET.name).get("Uploads", [])
    return [upload["UploadId"] for upload in found if f"/{owner}/" in upload["Key"]]


def upload_id(upload: Upload) -> str:
    return parse_qs(urlsplit(upload.missing[0].url).query)["uploadId"][0]


def expire(submissions: Submissions, owner: UUID) -> None:
    """Abort the upload, as the lifecycle rule of the bucket does."""
    for found in pending(owner):
        multipart.abort(key_of(submissions, owner), found)


def once[**P, R](
    monkeypatch: pytest.MonkeyPatch, name: str, between: Callable[[], object], *, after: bool
) -> None:
    """Run something right before or right after the first call of a function of S3."""
    original: Any = getattr(multipart, name)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(multipart, name, original)
        if not after:
            between()
        answer = original(*arguments)
        if after:
            between()
        return answer

    monkeypatch.setattr(multipart, name, interrupted)


# Requests in sequence -----------------------------------------------------------------------------


def test_a_second_product_uploads_with_its_own_tables(submissions: Submissions) -> None:
    """V-02: register, PUT, complete; the key begins with the context, the owner counts its
    files."""
    owner = submissions.open()
    upload = register(submissions, owner)
    send(upload)
    arrived_at = complete(submissions, owner)
    assert arrived_at is not None
    assert complete(submissions, owner) == arrived_at, "completing again changes nothing"
    assert BUCKET.read(f"exams/{submissions.tenant}/{owner}/{NAME}") == BODY
    assert submissions.count(owner) == 1
    again = register(submissions, owner)
    assert (again.arrived, again.missing) == ([1], [])


def test_a_closed_or_unknown_or_full_owner_takes_no_file(submissions: Submissions) -> None:
    """V-01: the errors use the product's own name of the owner."""
    closed, full = submissions.open(), submissions.open()
    submissions.close(closed)
    with pytest.raises(Conflict, match="the submission is closed, it takes no more files"):
        register(submissions, closed)
    with pytest.raises(NotFound, match="no such submission or file"):
        register(submissions, uuid4())
    with submissions.database.transaction(submissions.tenant) as tx:
        tx.execute(
            "update exams.submissions set total_files = 50 where submission_id = %s", (full,)
        )
    with pytest.raises(Conflict, match="a submission holds at most 50 files") as refused:
        register(submissions, full)
    assert refused.value.code == "too_many_files"
    assert (pending(closed), pending(full)) == ([], []), "no upload is started for a refusal"


def test_another_tenants_owner_does_not_exist(submissions: Submissions, other_tenant: UUID) -> None:
    """Q-10: neither a registration nor a notification reaches the owner of another tenant."""
    owner = submissions.open()
    stranger = Submissions(submissions.database, other_tenant)
    with pytest.raises(NotFound):
        register(stranger, owner)
    UPLOADS.arrived(key_of(stranger, owner), 5)
    assert submissions.count(owner) == 0


def test_parts_that_s3_refuses_are_a_conflict(submissions: Submissions) -> None:
    """V-02: a part that is too small is an error of the client, and the answer says so."""
    owner = submissions.open()
    upload = register(submissions, owner, 2 * PART_BYTES)
    for part in upload.missing:
        assert requests.put(part.url, data=b"short", timeout=5).status_code == 200
    with pytest.raises(Conflict, match="S3 refuses the parts"):
        complete(submissions, owner)
    send(upload, b"a" * 2 * PART_BYTES)
    assert complete(submissions, owner)


def test_an_upload_that_never_began_is_gone(submissions: Submissions) -> None:
    """V-02: a process died before it asked S3; every route asks the client to register again."""
    owner = submissions.open()
    name = UPLOADS.name(submissions.tenant, owner, NAME)
    with submissions.database.transaction(submissions.tenant) as tx:
        TABLE.add(tx, name, 3)
    with pytest.raises(UploadGone):
        UPLOADS.state(submissions.tenant, owner, name.file_id)
    with pytest.raises(UploadGone):
        complete(submissions, owner)
    send(register(submissions, owner))  # the file has another size now
    assert complete(submissions, owner)


def test_an_upload_that_was_not_noted_leaves_the_way_free(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-02: a process died between S3's answer and its note; a lifecycle rule ends its upload."""
    owner = submissions.open()

    def die() -> None:
        raise SystemExit

    once(monkeypatch, "start", die, after=True)
    with pytest.raises(SystemExit):
        register(submissions, owner)
    assert len(pending(owner)) == 1
    send(register(submissions, owner))
    assert complete(submissions, owner)


def test_a_file_that_arrived_without_upload_or_notice_is_found(submissions: Submissions) -> None:
    """C-06: an object was put directly and its notification is lost; routes find it."""
    owner = submissions.open()
    register(submissions, owner)
    expire(submissions, owner)
    client("s3").put_object(Bucket=BUCKET.name, Key=key_of(submissions, owner), Body=BODY)
    file_id = submissions.file_id(owner, NAME)
    assert UPLOADS.state(submissions.tenant, owner, file_id).missing == []
    assert register(submissions, owner).missing == []
    assert complete(submissions, owner)


# Races --------------------------------------------------------------------------------------------


def test_of_two_registrations_one_upload_wins(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-14: the loser ends its upload and returns the upload of the winner."""
    owner = submissions.open()
    winner: list[Upload] = []
    once(monkeypatch, "start", lambda: winner.append(register(submissions, owner)), after=True)
    loser = register(submissions, owner)
    assert upload_id(loser) == upload_id(winner[0])
    assert pending(owner) == [upload_id(loser)]
    send(loser)
    assert complete(submissions, owner)
    assert submissions.count(owner) == 1


def test_of_two_registrations_with_two_sizes_one_is_refused(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-02: parts of two files must not mix, so the size of the upload that won counts."""
    owner = submissions.open()
    once(monkeypatch, "start", lambda: register(submissions, owner, 5), after=True)
    with pytest.raises(Conflict) as refused:
        register(submissions, owner, 6)
    assert refused.value.extra == {"registered": 5}
    assert len(pending(owner)) == 1


def test_many_registrations_at_once_leave_one_upload(submissions: Submissions) -> None:
    """V-14: their transactions may commit in any order."""
    owner = submissions.open()
    uploads = together(*[lambda: register(submissions, owner)] * 6)
    assert len({upload_id(upload) for upload in uploads}) == 1
    assert pending(owner) == [upload_id(uploads[0])]
    assert submissions.count(owner) == 1


def test_an_expired_upload_is_replaced_once(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-02: two clients that come back after the expiry share the new upload."""
    owner = submissions.open()
    first = upload_id(register(submissions, owner))
    expire(submissions, owner)
    winner: list[Upload] = []
    once(monkeypatch, "start", lambda: winner.append(register(submissions, owner)), after=True)
    loser = register(submissions, owner)
    assert first != upload_id(loser) == upload_id(winner[0])
    assert pending(owner) == [upload_id(loser)]


def test_a_notification_in_the_middle_of_a_registration_wins(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-06: an object that arrives while its upload starts needs no upload."""
    owner = submissions.open()
    key = key_of(submissions, owner)
    once(monkeypatch, "start", lambda: UPLOADS.arrived(key, len(BODY)), after=True)
    upload = register(submissions, owner)
    assert (upload.arrived, upload.missing) == ([1], [])
    assert pending(owner) == []
    assert submissions.count(owner) == 1


def test_a_completion_meets_its_own_notification(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C-06: the notification comes before the note of the completion; the first note stays."""
    owner = submissions.open()
    send(register(submissions, owner))
    noted: list[datetime] = []

    def notify() -> None:
        UPLOADS.arrived(key_of(submissions, owner), len(BODY))
        file = submissions.file(owner, NAME)
        assert file is not None
        assert file.arrived_at is not None
        noted.append(file.arrived_at)

    once(monkeypatch, "_assemble", notify, after=True)
    assert complete(submissions, owner) == noted[0]


class Forgetful:
    """An S3 that forgets an upload once it has ended, as AWS does after some time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(client("s3"), name)

    def complete_multipart_upload(self, **_: object) -> None:
        answer = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
        raise ClientError(answer, "CompleteMultipartUpload")  # type: ignore[arg-type]


def test_of_two_completions_both_succeed(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-02: when the second completion asks S3, the first has ended the upload."""
    owner = submissions.open()
    send(register(submissions, owner))
    first: list[datetime | None] = []

    def complete_first() -> None:
        first.append(complete(submissions, owner))
        monkeypatch.setattr(multipart, "client", lambda _: Forgetful())

    once(monkeypatch, "_assemble", complete_first, after=False)
    assert complete(submissions, owner) == first[0] is not None


def test_a_completion_whose_answer_got_lost_is_seen_by_all(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V-02: S3 has completed the file, and the process died before its note."""
    owner = submissions.open()
    send(register(submissions, owner))

    def die() -> None:
        raise SystemExit

    once(monkeypatch, "_assemble", die, after=True)
    with pytest.raises(SystemExit):
        complete(submissions, owner)
    file_id = submissions.file_id(owner, NAME)
    assert UPLOADS.state(submissions.tenant, owner, file_id).missing == []
    assert register(submissions, owner).missing == []
    assert complete(submissions, owner)


# Notifications ------------------------------------------------------------------------------------


def test_a_notification_counts_once_and_not_when_it_is_late(submissions: Submissions) -> None:
    """C-06: S3 sends a notification twice at once, and one after the owner has closed."""
    owner = submissions.open()
    key = key_of(submissions, owner)
    together(*[lambda: UPLOADS.arrived(key, 7)] * 4)
    before = submissions.file(owner, NAME)
    assert before is not None
    assert (before.size, before.arrived_at is None) == (7, False)
    assert submissions.count(owner) == 1
    UPLOADS.arrived(key, 7)
    submissions.close(owner)
    UPLOADS.arrived(key, 9)
    UPLOADS.arrived(key.replace(NAME, "late.pdf"), 9)
    assert submissions.file(owner, NAME) == before
    assert submissions.count(owner) == 1


def test_another_contexts_object_is_ignored(submissions: Submissions) -> None:
    """C-06: contexts share a bucket; a key of another context is ignored, also with known ids."""
    owner = submissions.open()
    UPLOADS.arrived(f"batches/{submissions.tenant}/{owner}/{NAME}", 5)
    assert submissions.count(owner) == 0


def test_catching_up_lists_the_owner_once(
    submissions: Submissions, calls: list[str], other_tenant: UUID
) -> None:
    """V-01: thirty lost notifications cost one call to S3; a missing file stays missing."""
    owner = submissions.open()
    names = [UPLOADS.name(submissions.tenant, owner, f"{number}.pdf") for number in range(30)]
    with submissions.database.transaction(submissions.tenant) as tx:
        for name in names:
            TABLE.add(tx, name, 5)
    for name in names[:-1]:
        client("s3").put_object(Bucket=BUCKET.name, Key=name.key, Body=b"1234567")
    calls.clear()
    UPLOADS.catch_up(submissions.tenant, owner)
    assert calls == ["ListObjectsV2"]
    with submissions.database.transaction(submissions.tenant) as tx:
        assert [file.name for file in TABLE.absent(tx, owner)] == ["29.pdf"]
        found = TABLE.find(tx, owner, names[0].file_id)
    assert found is not None
    assert found.size == 7, "the size comes from S3"


def test_catching_up_asks_s3_for_nothing_that_is_known(
    submissions: Submissions, calls: list[str]
) -> None:
    """V-01: if every notification has come, or the owner is closed, S3 is not asked."""
    whole, closed = submissions.open(), submissions.open()
    for owner in (whole, closed):
        register(submissions, owner)
    UPLOADS.arrived(key_of(submissions, whole), 5)
    submissions.close(closed)
    calls.clear()
    UPLOADS.catch_up(submissions.tenant, whole)
    UPLOADS.catch_up(submissions.tenant, closed)
    assert calls == []


# The rule -----------------------------------------------------------------------------------------


def test_the_watch_sees_a_call_under_a_lock(submissions: Submissions, s3_watch: S3Watch) -> None:
    """C-06: the watch that all tests with S3 run under finds such a call."""
    owner = submissions.open()
    with submissions.database.transaction(submissions.tenant) as tx:
        TABLE.absent(tx, owner)
        assert BUCKET.size("a") is None, "a transaction that only reads holds no row lock"
        TABLE.lock_owner(tx, owner)
        with pytest.raises(AssertionError, match="HeadObject is called while a row lock is held"):
            BUCKET.size("a")
        together(lambda: BUCKET.size("a"))  # the transaction of another thread does not count
    s3_watch.under_lock.clear()
