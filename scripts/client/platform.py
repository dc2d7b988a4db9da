"""Finds the deployed API, and creates keys for its tenants."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from client.api import Client
from skald.access.keys import create_api_key
from skald.postgres import Database

STACK = "skald"


class NotReady(Exception):
    """There is no API key, or no API is deployed; the message says what to do."""


def outputs() -> dict[str, str]:
    """Return the outputs of the deployed stack."""
    stacks = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}


def base_url() -> str:
    """Return the address of the API; on LocalStack it is below LocalStack's own address."""
    found = outputs()
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        return f"{endpoint}/_aws/execute-api/{found['ApiId']}/local"
    return found["ApiUrl"]


def new_api_key(name: str, tenant_id: UUID | None = None) -> str:
    """Create a key for a tenant and return it; without `tenant_id`, create a new tenant.

    The database stores only the key's hash, so the key cannot be read again.
    """
    database = Database(os.environ["SKALD_MIGRATOR_DSN"])
    try:
        with database.transaction(None) as transaction:
            return create_api_key(transaction, tenant_id or uuid4(), name)
    finally:
        database.close()


def connect(name: str) -> Client:
    """Return a client of the deployed API that acts for a new tenant."""
    return Client(base_url(), new_api_key(name))


@contextmanager
def configured() -> Iterator[Client]:
    """Yield a client for `SKALD_API_KEY` at `SKALD_API_URL`, by default the deployed stack.

    Raises `NotReady` if there is no key, or if no API is named and none is deployed.
    """
    key = os.environ.get("SKALD_API_KEY")
    if not key:
        raise NotReady("no key: export SKALD_API_KEY=$(scripts/apikey NAME)")
    try:
        client = Client(os.environ.get("SKALD_API_URL") or base_url(), key)
    except (BotoCoreError, ClientError) as error:
        raise NotReady("nothing is deployed: run scripts/stack up, then scripts/deploy") from error
    with client.session:
        yield client


if __name__ == "__main__":
    print(outputs()[sys.argv[1]])
