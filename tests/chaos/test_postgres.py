"""G-01: connections to PostgreSQL are lost at every point of a batch."""

from collections.abc import Callable

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment, wait_for

from client.api import Refused

FILES = {f"file-{at}.log": flows.lines(50 + at) for at in range(3)}
COUNTS = {name: 50 + at for at, name in enumerate(FILES)}
FINAL = ("completed", "failed")


def terminate(skald: Deployment) -> int:
    """End every connection of the functions. Returns how many there were."""
    rows = skald.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'skald_app'"
    )
    return len(rows)


def test_connections_lost_at_every_change(skald: Deployment, tenant: Tenant) -> None:
    """G-01: all connections are cut at every visible change of a batch, and it ends once.

    Steps are retried and jobs come again.
    """
    batch_id = flows.open_batch(tenant, FILES)
    cut, last = 0, 0

    def cut_at_change() -> bool:
        nonlocal cut, last
        rows = skald.sql(
            "select version, status from batches.batches where batch_id = %s", batch_id
        )
        if rows[0]["version"] != last:
            last = rows[0]["version"]
            cut += terminate(skald)
        return rows[0]["status"] in FINAL

    with (
        skald.visibility("ParseQueue", "ParseFileJob", 3),
        skald.visibility("PipelineQueue", "ConductLifecycle", 3),
    ):
        tenant.client.complete(batch_id)
        wait_for("end of the batch", cut_at_change, 90)
    assert cut >= 5
    flows.assert_ended_once(skald, tenant, batch_id, events=COUNTS)


def patiently[T](call: Callable[[], T]) -> T:
    """Call until the answer is not "try again later"."""

    def once() -> list[T]:
        try:
            return [call()]
        except Refused as refused:
            if refused.status != 503:
                raise
            return []

    return wait_for("answer", once)[0]


def test_connections_lost_between_requests(skald: Deployment, tenant: Tenant) -> None:
    """G-01: a client whose function has lost its connection is asked to come back.

    A repeated request has one effect, and no request gets a 500.
    """
    batch_id = tenant.client.open_batch("cut")
    for at in range(5):
        terminate(skald)
        patiently(lambda: flows.send(tenant, batch_id, f"{at}.log", flows.lines(5)))  # noqa: B023
    terminate(skald)
    assert patiently(lambda: tenant.client.batch(batch_id))["total_files"] == 5
    tenant.client.cancel(batch_id)
