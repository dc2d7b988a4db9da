"""The description of the operations context for the rest of the system."""

from skald.context import Context

CONTEXT = Context(
    name="operations",
    apis={
        "operator": "operations.operator_api:api",
        "traces": "operations.traces:api",
        "operations": "operations.api:tenant_api",
        "root": "operations.api:api",
    },
    routes={"*": "events"},
)
