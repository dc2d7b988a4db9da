"""Q-03: the tenant of a transaction is named in one place."""

from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_only_the_kernel_names_the_tenant() -> None:
    """Q-03: a statement that set the tenant elsewhere would see whatever it named.

    The app's role may set it, so that no other text does is what keeps the isolation; that no
    value becomes text of a statement, `LiteralString` and the type checker see to.
    """
    naming = {
        path.name
        for folder in ("functions", "layers/core/skald")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql"} and "app.current_tenant" in path.read_text()
    }
    assert naming == {"postgres.py", "0001.kernel.sql"}
