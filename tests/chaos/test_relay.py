"""C-09, Q-05: events are neither lost nor take effect twice when the relay dies."""

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
"""The events of a batch in their order, with the event source that takes them."""


def lone_relay(skald: Deployment, killed: str) -> subprocess.CompletedProcess[str]:
    """Run a relay against the deployed outbox and queues, killed at this moment."""
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
    """Let a relay live and return how many events it has sent."""
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
    """Let the time of all leases be over."""
    skald.sql(
        "update skald.outbox set leased_until = now() - interval '1 s' where status = 'pending'"
    )


def test_killed_at_every_event(skald: Deployment, tenant: Tenant) -> None:
    """C-09, Q-05: for each event of a batch one relay is killed before it sends and one between
    send and mark. Nothing is lost; what was sent twice (the same event id) takes effect once: one
    pipeline, right counts, one report."""
    files = {"a.log": flows.lines(25, errors=2), "b.log": flows.lines(35)}
    batch_id = flows.open_batch(tenant, files)
    # The schedule, its retries and the doorbell all want to relay, too.
    with skald.paused("RelayDoorbell"), skald.throttled("Relay"):
        tenant.client.complete(batch_id)
        for event_type, consumer in CONSUMERS.items():
            wait_for(f"{event_type} in the outbox", lambda: outbox(skald, batch_id, event_type))  # noqa: B023
            # What is sent here shall not bring the next events while relays are still killed.
            with skald.paused(consumer) if consumer else nullcontext():
                for moment in ("before", "after"):
                    die(skald, moment)
                    rows = outbox(skald, batch_id, event_type)
                    assert all(row["status"] == "pending" and row["lease_token"] for row in rows)
                    # A living relay leaves alone what is on lease.
                    relay(skald)
                    assert outbox(skald, batch_id, event_type) == rows
                    end_leases(skald)
                assert relay(skald) >= len(rows)
            rows = outbox(skald, batch_id, event_type)
            assert [(row["status"], row["attempts"]) for row in rows] == [
                ("published", 3) for _ in rows
            ]
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 25, "b.log": 35})
    # At least once, on the wire: consumers know the double by its id.
    told = skald.events(batch_id, "batch.completed")
    assert len(told) == 2
    assert told[0]["event_id"] == told[1]["event_id"]
    assert told[0]["payload"] == told[1]["payload"]
    wait_for("empty queue", lambda: skald.is_empty("PipelineQueue"))
    wait_for("empty queue of jobs", lambda: skald.is_empty("ParseQueue"))
    assert flows.dead_letters(skald, tenant) == []
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 25, "b.log": 35})


def test_lost_doorbell(skald: Deployment, tenant: Tenant) -> None:
    """C-09: without any doorbell the schedule alone brings a batch through."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(3)})
    scheduled = payload("relay_scheduled", tenant.tenant_id, batch_id)
    with skald.paused("RelayDoorbell"):
        tenant.client.complete(batch_id)

        def ended() -> bool:
            skald.invoke("Relay", scheduled)
            return flows.status(tenant, batch_id) == "completed"

        wait_for("end of the batch", ended)
    flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 3})
