"""C-09, Q-05: when a relay dies, no event is lost and none takes effect twice."""

import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import ROOT, Deployment, Rows, wait_for
from tests.e2e.payloads import payload

CONSUMERS = {
    "batch.uploaded": "ConductLifecycle",
    "file.parse": "ParseFileJob",
    "batch.completed": None,
}
"""The events of a batch in their order, with the event source that consumes each."""


def lone_relay(skald: Deployment, killed: str) -> subprocess.CompletedProcess[str]:
    """Run a relay against the deployed outbox and queues; it kills itself at this moment."""
    relay = skald.resources["Relay"]
    configuration = skald.client("lambda").get_function_configuration(FunctionName=relay)
    paths = [ROOT / "layers" / "core", ROOT / "functions"]
    return subprocess.run(  # noqa: S603 (our own script)
        [sys.executable, Path(__file__).with_name("lone_relay.py"), killed],
        env={
            **skald.environ,
            **skald.values,
            "POSTGRES_DSN": skald.values["SKALD_RELAY_DSN"],
            "QUEUE_URLS": configuration["Environment"]["Variables"]["QUEUE_URLS"],
            "PYTHONPATH": ":".join(map(str, paths)),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def die(skald: Deployment, moment: str) -> None:
    done = lone_relay(skald, killed=moment)
    assert done.returncode == -signal.SIGKILL, done.stderr


def relay(skald: Deployment) -> int:
    """Run a relay to its end and return how many events it has sent."""
    done = lone_relay(skald, killed="never")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def outbox(skald: Deployment, batch_id: UUID, event_type: str) -> Rows:
    return skald.sql(
        "select status, attempts, lease_token from skald.outbox"
        " where correlation_id = %s and event_type = %s",
        str(batch_id),
        event_type,
    )


def end_leases(skald: Deployment) -> None:
    """End all leases."""
    skald.sql(
        "update skald.outbox set leased_until = now() - interval '1 s' where status = 'pending'"
    )


def test_killed_at_every_event(skald: Deployment, tenant: Tenant) -> None:
    """C-09, Q-05: for each event one relay dies before its send, and one between send and mark.

    Nothing is lost. An event that is sent twice (with the same event id) takes effect once: one
    pipeline, right counts, one report.
    """
    files = {"a.log": flows.lines(25, errors=2), "b.log": flows.lines(35)}
    batch_id = flows.open_batch(tenant, files)
    # The schedule, its retries and the doorbell would start relays too.
    with skald.paused("RelayDoorbell"), skald.throttled("Relay"):
        tenant.client.complete(batch_id)
        for event_type, consumer in CONSUMERS.items():
            wait_for(f"{event_type} in the outbox", lambda: outbox(skald, batch_id, event_type))  # noqa: B023
            # A sent event must not cause the next events while relays are still killed.
            with skald.paused(consumer) if consumer else nullcontext():
                for moment in ("before", "after"):
                    die(skald, moment)
                    rows = outbox(skald, batch_id, event_type)
                    assert all(row["status"] == "pending" and row["lease_token"] for row in rows)
                    # A living relay does not touch leased events.
                    relay(skald)
                    assert outbox(skald, batch_id, event_type) == rows
                    end_leases(skald)
                assert relay(skald) >= len(rows)
            rows = outbox(skald, batch_id, event_type)
            assert [(row["status"], row["attempts"]) for row in rows] == [
                ("published", 3) for _ in rows
            ]
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 25, "b.log": 35})
    # At least once, on the queue: consumers know a repeated event by its id.
    told = skald.events(batch_id, "batch.completed")
    assert len(told) == 2
    assert told[0]["event_id"] == told[1]["event_id"]
    assert told[0]["payload"] == told[1]["payload"]
    wait_for("empty queue", lambda: skald.is_empty("PipelineQueue"))
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert flows.dead_letters(skald, tenant) == []
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 25, "b.log": 35})


def test_lost_doorbell(skald: Deployment, tenant: Tenant) -> None:
    """C-09: without a doorbell the schedule alone sends all events of a batch."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(3)})
    scheduled = payload("relay_scheduled", tenant.tenant_id, batch_id)
    with skald.paused("RelayDoorbell"):
        tenant.client.complete(batch_id)

        def ended() -> bool:
            skald.invoke("Relay", scheduled)
            return flows.status(tenant, batch_id) == "completed"

        wait_for("end of the batch", ended)
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 3})
