"""V-06: files that never answer, answers that come too late, and lost answers."""

from uuid import UUID, uuid4

from tests.chaos import jobs
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for
from tests.e2e.payloads import payload

from batches.features import Features
from batches.repository import PARSING
from skald.postgres import Database


def test_file_that_never_answers(skald: Deployment, tenant: Tenant) -> None:
    """V-06: one of two files never answers; after five seconds the gather is forced.

    The report is partial and says why. The late answer of the file changes nothing.
    """
    files = {"quick.log": flows.lines(40, errors=4), "silent.log": flows.lines(50)}
    batch_id = flows.open_batch(tenant, files, timeout_seconds=5)
    with skald.paused("ParseFileJob"):
        with skald.paused("ConductLifecycle"):  # the five seconds have not begun
            jobs.scatter(skald, tenant, batch_id)
            jobs.deliver(skald, tenant, batch_id, "quick.log")
        counts = {"quick.log": 40, "silent.log": 0}
        report = flows.assert_ended_once(skald, tenant, batch_id, events=counts)
        assert "ForceGather" in skald.states(batch_id)
        reasons = {row["name"]: row["reason"] for row in report["statistics"]["files"]}
        assert reasons == {"quick.log": None, "silent.log": "no answer within 5 s"}
        assert report["outcome"] == "partial"
        before = (tenant.client.batch(batch_id), flows.tasks(skald, batch_id))
        jobs.deliver(skald, tenant, batch_id, "silent.log")
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert (tenant.client.batch(batch_id), flows.tasks(skald, batch_id)) == before
    flows.assert_ended_once(skald, tenant, batch_id, events=counts)


def test_no_file_answers(skald: Deployment, tenant: Tenant) -> None:
    """V-06: when no file answers in time, the batch fails with this reason."""
    batch_id = flows.open_batch(tenant, {"silent.log": flows.lines(5)}, timeout_seconds=5)
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        batch = flows.wait_until_ended(tenant, batch_id)
    assert (batch["status"], batch["failure_code"]) == ("failed", "nothing_parsed")
    assert tenant.client.files(batch_id)[0]["reason"] == "no answer within 5 s"
    flows.assert_told_once(skald, batch, "batch.failed")
    assert skald.events(batch_id, "batch.completed") == []
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))


def test_answer_that_got_lost(skald: Deployment, tenant: Tenant) -> None:
    """V-06: the last worker dies between its commit and the barrier; its job does not come again.

    The sweeper answers the pipeline, when the batch has not moved for long enough and not before.
    """
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(7), "b.log": flows.lines(8)})
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        jobs.deliver(skald, tenant, batch_id, "a.log")
        found = Features(format="text", total_events=8)
        _finish_without_arriving(skald, tenant, batch_id, "b.log", found)
        wait_for("outbox without unsent rows", lambda: not flows.unsent(skald, batch_id))
        skald.client("sqs").purge_queue(QueueUrl=skald.resources["ParseQueue"])
    reconcile = payload("reconcile", tenant.tenant_id, batch_id)
    assert skald.invoke("Reconcile", reconcile).error is None
    assert flows.status(tenant, batch_id) == "scattered"
    assert skald.states(batch_id)[-1] == "AwaitParsing"
    skald.sql(
        "update skald.fanouts set finished_at = finished_at - interval '1 hour',"
        " awaited_at = awaited_at - interval '1 hour' where saga_id = %s",
        str(batch_id),
    )
    answer = skald.invoke("Reconcile", reconcile)
    assert answer.payload["opened"] == answer.payload["closed"]
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 7, "b.log": 8})


def test_diagnosis_that_never_ends(skald: Deployment, tenant: Tenant) -> None:
    """V-06: the sweeper fails a batch whose diagnosis takes longer than ten minutes.

    It publishes one event, also when it runs again. A diagnosis that has just begun continues.
    """
    old, new = (flows.open_batch(tenant, {"a.log": flows.lines(5)}) for _ in range(2))
    for batch_id in (old, new):
        skald.sql("update batches.batches set status = 'diagnosing' where batch_id = %s", batch_id)
    _age(skald, old)
    for _ in range(2):
        assert skald.invoke("Sweep", payload("sweep", tenant.tenant_id, old)).error is None
    batch = tenant.client.batch(old)
    assert (batch["status"], batch["failure_code"]) == ("failed", "diagnosis_stuck")
    flows.assert_told_once(skald, batch, "batch.failed")
    assert flows.status(tenant, new) == "diagnosing"
    tenant.client.cancel(new)


def test_pipeline_that_died(skald: Deployment, tenant: Tenant) -> None:
    """G-07, V-06: a pipeline that ends without its compensation leaves its batch open.

    It ends by States.Runtime or a stop of an operator. The reconciler fails its batch once, and
    does not touch running pipelines.
    """
    dead, alive = (flows.open_batch(tenant, {"a.log": flows.lines(5)}) for _ in range(2))
    with skald.paused("ParseFileJob"):
        for batch_id in (dead, alive):
            tenant.client.complete(batch_id)
            flows.wait_until_parsing(skald, batch_id)
        execution = skald.execution(dead)["executionArn"]
        skald.client("stepfunctions").stop_execution(executionArn=execution)
        flows.answer_token(skald, dead)  # until then LocalStack keeps it
        wait_for("dead pipeline", lambda: skald.execution(dead)["status"] == "ABORTED")
        for batch_id in (dead, alive):
            _quieten(skald, batch_id)
        for _ in range(2):
            event = payload("reconcile", tenant.tenant_id, dead)
            assert skald.invoke("Reconcile", event).error is None
        assert flows.status(tenant, alive) == "scattering"
    batch = tenant.client.batch(dead)
    assert (batch["status"], batch["failure_code"]) == ("failed", "pipeline_failed")
    flows.assert_told_once(skald, batch, "batch.failed")
    flows.assert_ended_once(skald, tenant, alive, events={"a.log": 5})
    assert skald.events(dead, "batch.completed") == []


def _finish_without_arriving(
    skald: Deployment, tenant: Tenant, batch_id: UUID, name: str, features: Features
) -> None:
    """Do what a worker does up to the commit of its result."""
    database, worker = Database(skald.values["SKALD_APP_DSN"]), uuid4()
    task = (str(batch_id), flows.tasks(skald, batch_id)[name]["task_id"])
    try:
        with database.transaction(tenant.tenant_id) as tx:
            assert PARSING.claim(tx, *task, worker) == 1
        with database.transaction(tenant.tenant_id) as tx:
            assert PARSING.finish(tx, *task, worker, features) is not None
    finally:
        database.close()


def _quieten(skald: Deployment, batch_id: UUID) -> None:
    """Change a saga as if it had shown no sign of life for an hour."""
    skald.sql("set session_replication_role = replica")
    skald.sql(
        "update skald.saga_transactions set updated_at = updated_at - interval '1 hour'"
        " where saga_id = %s",
        str(batch_id),
    )
    skald.sql("set session_replication_role = origin")


def _age(skald: Deployment, batch_id: UUID) -> None:
    """Change a batch as if it had not moved for an hour, without its triggers."""
    skald.sql("set session_replication_role = replica")
    skald.sql(
        "update batches.batches set updated_at = updated_at - interval '1 hour'"
        " where batch_id = %s",
        batch_id,
    )
    skald.sql("set session_replication_role = origin")
