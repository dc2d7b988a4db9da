"""Updates the schema and the shared library at each deployment, as the migrator's role."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aws_lambda_powertools.utilities.typing import LambdaContext

import skald
from operations.library import load_library
from skald.config import settings
from skald.postgres import database
from skald.telemetry import logger

FUNCTIONS = Path(__file__).parents[1]
KERNEL = Path(skald.__file__).parent


def migrate(_: dict[str, Any], __: LambdaContext) -> dict[str, Any]:
    """Apply missing migrations, load the library, and return both. It is safe to repeat."""
    applied = apply(settings().postgres_dsn)
    library = load_library(database())
    logger.info("library is up to date", extra={"library": library.model_dump()})
    return {"applied": applied, "library": library.model_dump()}


def apply(dsn: str) -> list[str]:
    """Apply the migrations of kernel and contexts that this database does not have."""
    from yoyo import get_backend, read_migrations

    folders = [KERNEL / "schema", *sorted(FUNCTIONS.glob("*/schema"))]
    migrations = read_migrations(*map(str, folders))
    backend = get_backend(_with_driver(dsn))
    with backend.lock():
        missing = backend.to_apply(migrations)
        names = [migration.id for migration in missing]
        backend.apply_migrations(missing)
    backend.connection.close()
    logger.info("schema is up to date", extra={"applied": names})
    return names


def _with_driver(dsn: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(scheme="postgresql+psycopg"))
