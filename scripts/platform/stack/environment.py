"""The environment variables by which clients find the platform."""

import json
import shlex
from typing import TYPE_CHECKING

from .localstack import REGION, LocalStack
from .postgres import ROLES, Postgres
from .settings import Settings
from .valkey import Valkey

if TYPE_CHECKING:
    import boto3


def variables(settings: Settings) -> dict[str, str]:
    """Return all variables that a client of the platform needs."""
    postgres = Postgres(settings)
    return {
        "AWS_ENDPOINT_URL": LocalStack(settings).url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "POSTGRES_DSN": postgres.admin_dsn,
        **{f"SKALD_{role.upper()}_DSN": postgres.role_dsn(role) for role in ROLES},
        "REDIS_DSN": Valkey(settings).dsn,
    }


def session(settings: Settings) -> "boto3.Session":
    """Return an AWS session of the platform; it ignores the credentials of the shell."""
    import boto3

    values = variables(settings)
    return boto3.Session(
        aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        region_name=values["AWS_DEFAULT_REGION"],
    )


def as_shell(values: dict[str, str]) -> str:
    """Return the variables as lines for `eval` in a shell."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in values.items())


def as_json(values: dict[str, str]) -> str:
    """Return the variables as one JSON object."""
    return json.dumps(values, indent=2)
