"""V-05: PostgreSQL is the truth; a flush or an outage of Redis only costs speed."""

from threading import Event, Thread
from uuid import UUID

import redis
from stack.valkey import Valkey
from tests.chaos import jobs
from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for
from tests.integration.model_endpoint import ModelEndpoint, Reply

FILES = {f"file-{at}.log": flows.lines(100 + at) for at in range(4)}
COUNTS = {name: 100 + at for at, name in enumerate(FILES)}


def flush(skald: Deployment) -> None:
    with redis.Redis.from_url(skald.values["REDIS_DSN"]) as client:
        client.flushall()


def test_flushed_between_any_two_files(skald: Deployment, tenant: Tenant) -> None:
    """V-05: the barrier loses its set before the first, between all and after the last arrival.

    It opens for the last file and not before.
    """
    batch_id = flows.open_batch(tenant, FILES)
    with skald.paused("ParseFileJob"):
        tenant.client.complete(batch_id)
        flows.wait_until_parsing(skald, batch_id)
        *first, last = FILES
        for name in first:
            flush(skald)
            jobs.deliver(skald, tenant, batch_id, name)
            assert flows.status(tenant, batch_id) == "scattering"
        flush(skald)
        jobs.deliver(skald, tenant, batch_id, last)
        flush(skald)
        flows.assert_ended_once(skald, tenant, batch_id, events=COUNTS)
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))


def test_flushed_all_the_time(skald: Deployment, tenant: Tenant) -> None:
    """V-05: workers run side by side while Redis is flushed all the time."""
    batch_id = flows.open_batch(tenant, FILES)
    ended = Event()

    def keep_flushing() -> None:
        while not ended.wait(0.01):
            flush(skald)

    flushing = Thread(target=keep_flushing)
    flushing.start()
    try:
        tenant.client.complete(batch_id)
        flows.assert_ended_once(skald, tenant, batch_id, events=COUNTS)
    finally:
        ended.set()
        flushing.join()


def test_stopped_during_scatter(skald: Deployment, tenant: Tenant) -> None:
    """V-05, G-01: Redis stops after the first file and stays away to the end.

    The batch completes, the report is served, and health names the missing server.
    """
    batch_id: UUID = flows.open_batch(tenant, FILES)
    try:
        with skald.paused("ParseFileJob"):
            tenant.client.complete(batch_id)
            flows.wait_until_parsing(skald, batch_id)
            jobs.deliver(skald, tenant, batch_id, "file-0.log")
            assert Valkey(skald.settings).stop()
        flows.assert_ended_once(skald, tenant, batch_id, events=COUNTS)
        health = tenant.client.call("GET", "/health").json()
        assert (health["postgres"], health["redis"]) == ("ok", "unavailable")
    finally:
        skald.must_run("stack", "up")
    assert tenant.client.call("GET", "/health").json()["redis"] == "ok"
    assert flows.events_by_file(tenant.client.report(batch_id)) == COUNTS


def test_stopped_during_a_diagnosis(
    skald: Deployment, tenant: Tenant, endpoint: ModelEndpoint
) -> None:
    """V-13, G-04: Redis stops while the model works, and with it the limit of calls.

    No more calls are made. When Redis is back the diagnosis continues, repeats no call, and is
    stored once.
    """
    says = endpoint.script
    stops = iter([Valkey(skald.settings).stop])

    def stop_meanwhile(prompt: str) -> Reply:
        for stop in stops:
            assert stop()
        return says(prompt)

    endpoint.script = stop_meanwhile
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(400, errors=300)})
    failed = (
        "select 1 from skald.saga_steps where saga_id = %s and step = 'diagnose' and error > ''"
    )
    try:
        tenant.client.complete(batch_id)
        wait_for("agents without Redis", lambda: skald.sql(failed, str(batch_id)))
        assert len(endpoint.asked) == 1
    finally:
        skald.must_run("stack", "up")
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 400})
    assert len(skald.sql("select 1 from batches.diagnoses where batch_id = %s", batch_id)) == 1
    assert len(endpoint.asked) > 1
    assert set(endpoint.prompts.values()) == {1}
    wait_for("empty queue", lambda: skald.is_empty("DiagnosisQueue"))
    assert flows.dead_letters(skald, tenant) == []
