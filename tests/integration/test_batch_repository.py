"""V-01 to V-06, V-11, V-14: the rows of a batch in PostgreSQL, also when writers race."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from psycopg import Connection, errors
from psycopg.rows import DictRow
from tests.integration.batches import FEATURES, Fleet, age, finish
from tests.integration.support import rows_read, scans_of, together, wait_until_blocked

from batches import repository
from batches.domain import BatchStatus
from batches.repository import PARSING
from skald.life import IllegalTransition
from skald.postgres import Database

# Files --------------------------------------------------------------------------------------------


def test_a_file_registered_twice_is_one(fleet: Fleet) -> None:
    """V-14: a file is unique in its batch, for any order of registrations, and counted once."""
    batch_id = fleet.pending()
    name = fleet.name(batch_id, "a.log")
    first, second = (fleet.do(repository.FILES.add, name, 5) for _ in range(2))
    assert first is not None
    assert first == second
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_racing_registrations_are_one(fleet: Fleet) -> None:
    """V-14: the API and the S3 notification may register a file at the same moment."""
    batch_id = fleet.pending()
    name = fleet.name(batch_id, "a.log")
    files = together(*[lambda: fleet.do(repository.FILES.add, name, 5)] * 6)
    assert len({file.file_id for file in files if file}) == 1
    assert None not in files
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_a_registration_waits_for_the_one_before_it(
    fleet: Fleet, admin: Connection[DictRow]
) -> None:
    """V-14: two open transactions never count a file twice."""
    batch_id = fleet.pending()
    name = fleet.name(batch_id, "a.log")
    with ThreadPoolExecutor(1) as pool:
        with fleet.database.transaction(fleet.tenant) as tx:
            first = repository.FILES.add(tx, name, 5)
            second = pool.submit(fleet.do, repository.FILES.add, name, 5)
            wait_until_blocked(admin)
        assert second.result() == first
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_a_closed_batch_takes_no_file(fleet: Fleet) -> None:
    """V-01: once a batch is uploaded its files are fixed; only known files are found."""
    batch_id = fleet.pending("a.log")
    fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    assert fleet.do(repository.FILES.add, fleet.name(batch_id, "b.log"), 5) is None
    assert fleet.do(repository.FILES.add, fleet.name(batch_id, "a.log"), 5) is not None
    assert fleet.counts(batch_id) == (1, 0, 0)


def test_files_are_listed_without_a_look_at_other_batches(fleet: Fleet) -> None:
    """V-04: a list of one batch's files reads the tasks of that batch alone, each once."""
    names = [f"{number}.log" for number in range(20)]
    batches = [fleet.scattering(*names) for _ in range(20)]
    with fleet.database.transaction(fleet.tenant) as tx:
        tx.execute("set local enable_seqscan = off")  # right for a table as small as this one
        scans = scans_of("task_executions", tx, lambda: repository.list_files(tx, batches[3]))
    assert sum(map(rows_read, scans)) == len(names)


def test_the_database_itself_keeps_files_unique(fleet: Fleet) -> None:
    """V-14: a constraint refuses a second row of the same name, even with a wrong statement."""
    batch_id = fleet.pending("a.log")
    with (
        pytest.raises(errors.UniqueViolation),
        fleet.database.transaction(fleet.tenant) as tx,
    ):
        tx.execute(
            "insert into batches.files (tenant_id, batch_id, file_id, name, key)"
            " values (%s, %s, %s, 'a.log', 'another')",
            (fleet.tenant, batch_id, uuid4()),
        )


def test_an_arrival_is_noted_while_the_batch_is_pending(fleet: Fleet) -> None:
    """V-01: the size of the last arrival counts, and the time of the first; late ones do not."""
    batch_id = fleet.pending("a.log")
    file_id = fleet.file_id(batch_id, "a.log")
    (before,) = fleet.do(repository.list_files, batch_id)
    assert fleet.do(repository.FILES.mark_arrived, batch_id, {file_id: 7})
    (after,) = fleet.do(repository.list_files, batch_id)
    assert (after.size, after.arrived_at) == (7, before.arrived_at)
    fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    assert not fleet.do(repository.FILES.mark_arrived, batch_id, {file_id: 9})
    assert fleet.do(repository.list_files, batch_id)[0].size == 7


# States -------------------------------------------------------------------------------------------


def test_a_repeated_step_finds_its_state(fleet: Fleet) -> None:
    """V-03: a batch may enter its state again; it may not skip a state or go back."""
    batch_id = fleet.pending()
    fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    fleet.do(repository.enter, batch_id, BatchStatus.UPLOADED)
    for illegal in (
        BatchStatus.PENDING,
        BatchStatus.SCATTERED,
        BatchStatus.GATHERING,
        BatchStatus.COMPLETED,
    ):
        with pytest.raises(IllegalTransition, match="is uploaded"):
            fleet.do(repository.enter, batch_id, illegal)
    assert fleet.batch(batch_id).status is BatchStatus.UPLOADED


def test_racing_transitions_happen_once(fleet: Fleet) -> None:
    """V-03: several writers make the same change at the same moment; one succeeds."""
    batch_id = fleet.pending()
    moved = together(*[lambda: fleet.do(repository.advance, batch_id, BatchStatus.UPLOADED)] * 6)
    assert sorted(moved) == [False] * 5 + [True]


def test_a_batch_completes_once(fleet: Fleet) -> None:
    """V-03: completing again is refused, and so is failing a completed batch."""
    batch_id = fleet.diagnosing("a.log")
    fleet.do(repository.complete, batch_id, "complete")
    with pytest.raises(IllegalTransition, match="cannot complete"):
        fleet.do(repository.complete, batch_id, "partial")
    assert not fleet.do(repository.fail, batch_id, "late", "too late")
    batch = fleet.batch(batch_id)
    assert (batch.status, batch.outcome, batch.failure_code) == (
        BatchStatus.COMPLETED,
        "complete",
        None,
    )
    assert batch.completed_at is not None


def test_a_failed_batch_stays_failed(fleet: Fleet) -> None:
    """V-03: the first failure counts, and no step changes the batch after it."""
    batch_id = fleet.diagnosing("a.log")
    assert fleet.do(repository.fail, batch_id, "first", "x" * 5000)
    assert not fleet.do(repository.fail, batch_id, "second", "")
    batch = fleet.batch(batch_id)
    assert batch.failure_code == "first"
    assert len(batch.failure_detail or "") == 2000
    with pytest.raises(IllegalTransition):
        fleet.do(repository.complete, batch_id, "complete")


def test_completing_and_failing_at_once_ends_in_one_of_them(fleet: Fleet) -> None:
    """V-03: a sweeper and a publish that race leave one final state."""
    batch_id = fleet.diagnosing("a.log")

    def complete() -> bool:
        try:
            fleet.do(repository.complete, batch_id, "complete")
        except IllegalTransition:
            return False
        return True

    ended = together(complete, lambda: fleet.do(repository.fail, batch_id, "stuck", ""))
    assert sorted(ended) == [False, True]


# Tasks --------------------------------------------------------------------------------------------


def test_a_redelivered_job_fences_its_first_worker_off(fleet: Fleet) -> None:
    """V-05: the result of the worker that claimed the job last counts."""
    batch_id = fleet.scattering("a.log")
    first, second = uuid4(), uuid4()
    assert fleet.claim(batch_id, "a.log", first) == 1
    assert fleet.claim(batch_id, "a.log", second) == 2
    assert not fleet.finish(batch_id, "a.log", first, "late and wrong")
    assert fleet.counts(batch_id) == (1, 0, 0)
    assert fleet.finish(batch_id, "a.log", second)
    assert not fleet.finish(batch_id, "a.log", second), "it counts once"
    assert fleet.counts(batch_id) == (1, 1, 0)
    (file,) = fleet.do(repository.list_files, batch_id)
    assert (file.status, file.features) == ("completed", FEATURES)


def test_a_finished_job_cannot_be_claimed(fleet: Fleet) -> None:
    """V-05: a job that comes again after its end does nothing."""
    batch_id = fleet.scattering("a.log", "b.log")
    fleet.finish(batch_id, "a.log")
    assert fleet.claim(batch_id, "a.log", uuid4()) is None
    assert fleet.counts(batch_id) == (2, 1, 0)


def test_the_last_file_scatters_the_batch(fleet: Fleet) -> None:
    """V-03, V-04: failed files are done too; the state changes with the last file."""
    batch_id = fleet.scattering("a.log", "b.log")
    fleet.finish(batch_id, "a.log", result="broken")
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERING
    fleet.finish(batch_id, "b.log")
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERED
    assert fleet.counts(batch_id) == (2, 2, 1)
    assert {f.name: f.reason for f in fleet.do(repository.list_files, batch_id)} == {
        "a.log": "broken",
        "b.log": None,
    }


def test_racing_files_are_counted_once_each(fleet: Fleet) -> None:
    """V-05: workers finish at the same moment: each file counts, and one sees the last."""
    names = [f"{number}.log" for number in range(8)]
    batch_id = fleet.scattering(*names)
    assert all(together(*[partial(fleet.finish, batch_id, name) for name in names]))
    assert fleet.counts(batch_id) == (8, 8, 0)
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERED


@pytest.mark.parametrize("finisher_first", [True, False])
def test_finishing_and_giving_up_count_a_file_once(
    fleet: Fleet, admin: Connection[DictRow], finisher_first: bool
) -> None:
    """V-06: a worker that finishes during a forced gather is either in time or too late."""
    batch_id = fleet.scattering("a.log", "b.log")
    worker = uuid4()
    fleet.claim(batch_id, "a.log", worker)
    file_id = str(fleet.file_id(batch_id, "a.log"))

    def give_up() -> int:
        return fleet.force(batch_id, "no answer")

    def finish_late() -> bool:
        return fleet.finish(batch_id, "a.log", worker)

    later: Future[int] | Future[bool]
    with ThreadPoolExecutor(1) as pool:
        with fleet.database.transaction(fleet.tenant) as tx:
            if finisher_first:
                assert finish(tx, str(batch_id), file_id, worker, FEATURES)
                later = pool.submit(give_up)
            else:
                assert PARSING.force(tx, str(batch_id), "no answer") == 2
                later = pool.submit(finish_late)
            wait_until_blocked(admin)
        assert later.result() == (1 if finisher_first else False)
    assert fleet.counts(batch_id) == (2, 2, 1 if finisher_first else 2)
    assert fleet.batch(batch_id).status is BatchStatus.SCATTERED


def test_many_finishers_and_a_forced_gather_count_each_file_once(fleet: Fleet) -> None:
    """V-06: in any order of events, every file ends once and the sum is the total."""
    for _ in range(5):
        names = [f"{number}.log" for number in range(6)]
        batch_id = fleet.scattering(*names)
        works: list[Callable[[], int]] = [partial(fleet.finish, batch_id, name) for name in names]
        works.append(partial(fleet.force, batch_id, "no answer"))
        *finished, given_up = together(*works)
        assert sum(finished) + given_up == 6
        assert fleet.counts(batch_id) == (6, 6, given_up)
        assert fleet.batch(batch_id).status is BatchStatus.SCATTERED


def test_a_cancelled_batch_counts_no_results(fleet: Fleet) -> None:
    """V-03: after the end of a batch its files are neither claimed nor finished nor given up."""
    batch_id = fleet.scattering("a.log")
    worker = uuid4()
    fleet.claim(batch_id, "a.log", worker)
    fleet.do(repository.fail, batch_id, "cancelled", "")
    assert not fleet.finish(batch_id, "a.log", worker)
    assert fleet.claim(batch_id, "a.log", uuid4()) is None
    assert fleet.force(batch_id, "late") == 0
    assert fleet.counts(batch_id) == (1, 0, 0)


# Constraints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "processed_files = total_files + 1",
        "failed_files = processed_files + 1",
        "total_files = -1",
        "status = 'completed'",
        "status = 'failed'",
        "status = 'somewhere'",
        "outcome = 'complete'",
    ],
)
def test_impossible_batches_cannot_be_stored(
    fleet: Fleet, admin: Connection[DictRow], change: str
) -> None:
    """V-14: processed ≤ total, an outcome exactly when completed, a reason exactly when failed."""
    batch_id = fleet.scattering("a.log")
    with pytest.raises(errors.CheckViolation):
        admin.execute(
            f"update batches.batches set {change} where batch_id = %s",  # noqa: S608
            (batch_id,),
        )


def test_a_batch_has_one_diagnosis_and_one_report(fleet: Fleet) -> None:
    """V-14: one diagnosis per batch, and one report."""
    batch_id = fleet.diagnosing("a.log")
    for save in (repository.save_diagnosis, repository.save_report):
        fleet.do(save, batch_id, {"n": 1})
        with pytest.raises(errors.UniqueViolation):
            fleet.do(save, batch_id, {"n": 2})
    assert fleet.do(repository.find_diagnosis, batch_id) == {"n": 1}
    assert fleet.do(repository.find_report, batch_id) == {"n": 1}


def test_documents_keep_the_order_they_were_written_in(fleet: Fleet) -> None:
    """V-10: the members of a report keep the order in which they were written."""
    batch_id = fleet.diagnosing("a.log")
    fleet.do(repository.save_report, batch_id, {"z": 1, "a": 2, "m": 3})
    report = fleet.do(repository.find_report, batch_id)
    assert list(report or {}) == ["z", "a", "m"]


# Progress -----------------------------------------------------------------------------------------


def test_every_visible_change_is_written_in_order(fleet: Fleet) -> None:
    """V-11: progress has every state and every count, numbered, for every writer."""
    batch_id = fleet.completed("a.log", "b.log")
    changes = fleet.do(repository.progress_since, batch_id, 0)
    assert [(str(c.status), c.total_files, c.processed_files) for c in changes] == [
        ("pending", 0, 0),
        ("pending", 1, 0),
        ("pending", 2, 0),
        ("uploaded", 2, 0),
        ("scattering", 2, 0),
        ("scattering", 2, 1),
        ("scattered", 2, 2),
        ("gathering", 2, 2),
        ("gathered", 2, 2),
        ("diagnosing", 2, 2),
        ("completed", 2, 2),
    ]
    versions = [change.version for change in changes]
    assert versions == sorted(set(versions))
    assert [c.at for c in changes] == sorted(c.at for c in changes)


def test_invisible_changes_are_no_progress(fleet: Fleet) -> None:
    """V-11: a change of the token or of statistics is no progress."""
    batch_id = fleet.scattering("a.log")
    before = fleet.do(repository.progress_since, batch_id, 0)
    fleet.keep_token(batch_id, "token")
    fleet.do(repository.save_statistics, batch_id, {"n": 1})
    assert fleet.do(repository.progress_since, batch_id, 0) == before
    assert fleet.token(batch_id) == "token"


def test_progress_resumes_after_a_version(fleet: Fleet) -> None:
    """V-11: progress since a version begins with the version after it."""
    batch_id = fleet.scattering("a.log")
    changes = fleet.do(repository.progress_since, batch_id, 0)
    assert fleet.do(repository.progress_since, batch_id, changes[1].version) == changes[2:]
    assert fleet.do(repository.progress_since, batch_id, changes[-1].version) == []


# Stuck --------------------------------------------------------------------------------------------


def test_stuck_batches_are_found_by_state_and_age(
    fleet: Fleet, relay_database: Database, admin: Connection[DictRow]
) -> None:
    """V-06: diagnosing without a sign of life for 10 min; no other state, none that is younger."""
    stuck, young = (fleet.diagnosing("a.log") for _ in range(2))
    others = [fleet.scattering("a.log"), fleet.scattered("a.log"), fleet.completed("a.log")]
    for batch_id in (stuck, *others):
        age(admin, batch_id, timedelta(minutes=11))
    age(admin, young, timedelta(minutes=9))
    with relay_database.transaction(None) as lookout:
        rows = repository.find_stuck(lookout, timedelta(minutes=10))
    assert {row.batch_id for row in rows if row.tenant_id == fleet.tenant} == {stuck}


def test_a_parser_is_given_its_file_and_the_databases(fleet: Fleet) -> None:
    """V-04: and not the other files of its batch, up to 1,000."""
    batch_id = fleet.pending("a.log", "b.log", "car.DBC", "dbc.log", "xdbc")
    found = fleet.do(repository.list_files_to_parse, batch_id, fleet.file_id(batch_id, "b.log"))
    assert [file.name for file in found] == ["b.log", "car.DBC"]
