"""The deployment and tenants of tests/e2e: one platform serves both."""

from tests.e2e.conftest import endpoint, new_tenant, skald, tenant

__all__ = ["endpoint", "new_tenant", "skald", "tenant"]
