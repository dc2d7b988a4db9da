"""Batches in each of their states, with a file."""

from uuid import UUID

from tests.integration.batches import Fleet
from tests.integration.existing.world import Ids, World
from tests.integration.support import Client

from batches import artifacts
from skald.storage.objects import ARTIFACTS

FILE = "a.log"


def existing(world: World) -> list[Ids]:
    """Return the ids of batches and their files."""
    api, fleet = Client(world.api_key), Fleet(world.database, world.tenant)
    batches = [
        _open(api),
        fleet.pending(),
        fleet.pending(FILE),
        fleet.scattering(FILE),
        fleet.diagnosing(FILE),
        fleet.completed(FILE),
        fleet.completed(FILE, report={"charts": {"faults": "chart.png"}}),
        _cancelled(api),
    ]
    ARTIFACTS.write(artifacts.page_key(world.tenant, batches[-2]), b"<p>", "text/html")
    return [
        {"batch_id": str(batch_id), "file_id": str(fleet.file_id(batch_id, FILE))}
        for batch_id in batches
    ]


def _open(api: Client) -> UUID:
    """A batch with a file whose upload has begun."""
    batch_id = api.open_batch()
    assert api("POST", f"/batches/{batch_id}/files", {"name": FILE, "size": 5}).status == 201
    return UUID(batch_id)


def _cancelled(api: Client) -> UUID:
    batch_id = api.open_batch()
    assert api("POST", f"/batches/{batch_id}/cancel").status == 200
    return UUID(batch_id)
