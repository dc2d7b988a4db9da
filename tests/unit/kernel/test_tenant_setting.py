"""Q-03: the tenant of a transaction is named in one place."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_only_the_kernel_names_the_tenant() -> None:
    """Q-03: a statement that set the tenant elsewhere would see any tenant it named.

    The app's role may set it, so what keeps the isolation is that no other text does, and that no
    value becomes text of a statement (`test_no_parameter_of_a_request_becomes_sql`).
    """
    naming = {
        path.name
        for folder in ("functions", "layers/core/skald")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql"} and "app.current_tenant" in path.read_text()
    }
    assert naming == {"pool.py", "0001.tenancy.sql"}
