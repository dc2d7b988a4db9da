"""Q-03: the tenant of a transaction is set in one place."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_only_the_kernel_names_the_tenant() -> None:
    """Q-03: a statement elsewhere that sets the tenant would see the rows of any tenant.

    The app's role may set the tenant. So two rules keep the isolation: no other SQL text sets it,
    and no value becomes part of an SQL text (`test_no_parameter_of_a_request_becomes_sql`).
    """
    naming = {
        path.name
        for folder in ("functions", "layers/core/skald")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql"} and "app.current_tenant" in path.read_text()
    }
    assert naming == {"pool.py", "0001.tenancy.sql"}
