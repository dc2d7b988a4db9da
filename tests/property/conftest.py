"""The servers and tenants of the integration tier."""

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
