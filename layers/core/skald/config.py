"""Settings, read from the environment on first use."""

import os
from datetime import timedelta
from functools import cache, cached_property


class Settings:
    """The environment of one function, each value read and checked on first use.

    Connection strings come from `POSTGRES_DSN`, `LOOKOUT_DSN` and `REDIS_DSN` if they are set,
    otherwise from the Secrets Manager secrets named by `POSTGRES_SECRET` and so on.
    """

    @cached_property
    def postgres_dsn(self) -> str:
        return _connection_string("POSTGRES")

    @cached_property
    def lookout_dsn(self) -> str:
        return _connection_string("LOOKOUT")

    @cached_property
    def redis_dsn(self) -> str:
        return _connection_string("REDIS")

    @cached_property
    def postgres_pool_size(self) -> int:
        """Connections that one process may hold; a Lambda environment needs one."""
        return int(os.environ.get("POSTGRES_POOL_MAX", "4"))

    @cached_property
    def postgres_pooler(self) -> bool:
        """Whether connections lead to a transaction pooler (RDS Proxy, PgBouncer)."""
        return os.environ.get("POSTGRES_POOLER") == "yes"

    @cached_property
    def doorbell_queue(self) -> str | None:
        """URL of the queue that wakes the relay; without it only the schedule does."""
        return os.environ.get("RELAY_DOORBELL_QUEUE_URL") or None

    @cached_property
    def model(self) -> str:
        """The model that judges; see `skald.models.choice`."""
        return os.environ.get("MODEL") or "offline"

    @cached_property
    def embedder(self) -> str:
        """The embedder that turns texts into vectors; see `skald.knowledge.embedders`."""
        return os.environ.get("EMBEDDER") or "local"

    @cached_property
    def model_api_key(self) -> str | None:
        """Key of an OpenAI-compatible endpoint; None without such a secret."""
        if key := os.environ.get("MODEL_API_KEY"):
            return key
        secret = os.environ.get("MODEL_SECRET")
        return _secret_if_any(secret) if secret else None

    @cached_property
    def model_concurrency(self) -> int:
        """How many calls of the model run at the same time, over all functions."""
        return int(os.environ.get("MODEL_CONCURRENCY", "20"))

    @cached_property
    def rate_limit_per_ip(self) -> int:
        """Requests a minute of one address without a valid key; 0 for no limit."""
        return int(os.environ.get("RATE_LIMIT_PER_IP", "100"))

    @cached_property
    def rate_limit_per_key(self) -> int:
        """Requests a minute with one API key; 0 for no limit."""
        return int(os.environ.get("RATE_LIMIT_PER_KEY", "1000"))

    @cached_property
    def rate_limit_per_resource(self) -> int:
        """Requests a minute of one tenant to one path; 0 for no limit."""
        return int(os.environ.get("RATE_LIMIT_PER_RESOURCE", "0"))

    @cached_property
    def idempotency_ttl(self) -> timedelta:
        """How long answers are kept (W-02)."""
        return timedelta(hours=float(os.environ.get("IDEMPOTENCY_TTL_HOURS") or 24))

    @cached_property
    def stage(self) -> str:
        return os.environ.get("SKALD_STAGE", "local")


def required(name: str) -> str:
    """Return an environment variable that a function needs.

    Raises `LookupError` with its name.
    """
    value = os.environ.get(name)
    if not value:
        raise LookupError(f"the environment variable {name} is not set")
    return value


@cache
def settings() -> Settings:
    return Settings()


def _connection_string(kind: str) -> str:
    return os.environ.get(f"{kind}_DSN") or _secret(required(f"{kind}_SECRET"))


def _secret_if_any(name: str) -> str | None:
    from skald.aws import client

    try:
        return _secret(name)
    except client("secretsmanager").exceptions.ResourceNotFoundException:
        return None


def _secret(name: str) -> str:
    from skald.aws import client

    return client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
