"""The servers and tenants of the integration tier, and how much a property is tried."""

from hypothesis import HealthCheck, settings
from tests.integration.conftest import (  # noqa: F401  # fixtures
    admin,
    api_key,
    aws,
    database,
    environment,
    migrator_database,
    relay_database,
    servers,
    tenant,
    valkey,
)

settings.register_profile(
    "skald",
    max_examples=100,
    deadline=None,  # real servers on a shared machine
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("skald")
