"""The deployed template and its tenants; tests/chaos has the same fixtures."""

import dataclasses
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from tests.e2e.deployment import Deployment, deployed, stop
from tests.integration.model_endpoint import ModelEndpoint, Reply, always, model_endpoint

from client.api import Client
from skald.access.keys import create_api_key
from skald.postgres import Database

SAYS = 'The pump is stuck. {"summary": "The pump is stuck."}'


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A tenant with a key, and a client with this key."""

    tenant_id: UUID
    api_key: str
    client: Client


type NewTenant = Callable[[], Tenant]


@pytest.fixture(scope="session")
def skald(request: pytest.FixtureRequest) -> Deployment:
    """The deployment that all tests share. It is stopped when pytest ends."""
    deployment = deployed()
    session = request.session
    if not getattr(session, "skald_stops", False):
        session.skald_stops = True  # type: ignore[attr-defined]
        request.config.add_cleanup(lambda: stop(deployment, keep=session.testsfailed > 0))
    return deployment


@pytest.fixture
def new_tenant(skald: Deployment) -> Iterator[NewTenant]:
    """Create tenants for one test alone."""
    made: list[Tenant] = []

    def make() -> Tenant:
        tenant_id = uuid4()
        migrator = Database(skald.values["SKALD_MIGRATOR_DSN"])
        try:
            with migrator.transaction(None) as transaction:
                key = create_api_key(transaction, tenant_id, "test")
        finally:
            migrator.close()
        made.append(Tenant(tenant_id, key, Client(skald.api_url, key)))
        return made[-1]

    yield make
    for tenant in made:
        tenant.client.session.close()


@pytest.fixture
def tenant(new_tenant: NewTenant) -> Tenant:
    return new_tenant()


@pytest.fixture
def endpoint(skald: Deployment) -> Iterator[ModelEndpoint]:
    """A model endpoint for the deployed diagnosis, in the form of the parameter `Model`."""
    with (
        model_endpoint(always(Reply(SAYS))) as endpoint,
        skald.configured("Diagnose", MODEL=endpoint.setting),
    ):
        yield endpoint
