"""Stores the addresses of PostgreSQL and Redis for the deployed functions, as on AWS."""

from typing import TYPE_CHECKING

from .environment import session, variables
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

PREFIX = "skald"


def publish(settings: Settings) -> None:
    """Put the connection strings into Secrets Manager, under the names in template.yaml."""
    values = variables(settings)
    client = session(settings).client("secretsmanager", endpoint_url=values["AWS_ENDPOINT_URL"])
    for role in ("app", "relay", "migrator"):
        _put(client, f"{PREFIX}/postgres/{role}", values[f"SKALD_{role.upper()}_DSN"])
    _put(client, f"{PREFIX}/redis", values["REDIS_DSN"])


def _put(client: "SecretsManagerClient", name: str, text: str) -> None:
    try:
        client.create_secret(Name=name, SecretString=text)
    except client.exceptions.ResourceExistsException:
        client.put_secret_value(SecretId=name, SecretString=text)
