"""Settings are read on first use, and an error names the missing ones."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from tests.unit.template import ROOT

import skald.aws
from skald.config import Settings, required


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("POSTGRES", "LOOKOUT", "REDIS"):
        monkeypatch.delenv(f"{kind}_DSN", raising=False)
        monkeypatch.delenv(f"{kind}_SECRET", raising=False)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Secrets Manager in this process."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        skald.aws._client.cache_clear()
        yield skald.aws.client("secretsmanager")
        skald.aws._client.cache_clear()


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        ("postgres_dsn", "POSTGRES_SECRET"),
        ("lookout_dsn", "LOOKOUT_SECRET"),
        ("redis_dsn", "REDIS_SECRET"),
    ],
)
def test_a_missing_variable_says_its_name(setting: str, variable: str) -> None:
    """Settings: the error tells an operator which variable to set."""
    with pytest.raises(LookupError, match=variable):
        getattr(Settings(), setting)


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_variable_is_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Settings: CloudFormation passes an empty string for a value that is not set."""
    monkeypatch.delenv("SKALD_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("SKALD_TEST", value)
    with pytest.raises(LookupError, match="SKALD_TEST is not set"):
        required("SKALD_TEST")
    monkeypatch.setenv("SKALD_TEST", "x")
    assert required("SKALD_TEST") == "x"


def test_locally_the_environment_has_the_connection_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Secrets: on a laptop they come from the environment, and are read once."""
    settings = Settings()
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://local")
    assert settings.postgres_dsn == "postgresql://local"
    monkeypatch.setenv("POSTGRES_DSN", "postgresql://other")
    assert settings.postgres_dsn == "postgresql://local"


def test_on_aws_secrets_manager_has_the_connection_string(
    monkeypatch: pytest.MonkeyPatch, secrets: Any
) -> None:
    """Secrets: on AWS the connection strings come from Secrets Manager."""
    secrets.create_secret(Name="skald/redis", SecretString="redis://aws")
    monkeypatch.setenv("REDIS_SECRET", "skald/redis")
    assert Settings().redis_dsn == "redis://aws"


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Settings: a function that uses no Redis needs no settings of Redis."""
    Settings()


def test_a_model_without_a_key_has_no_such_secret(
    secrets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets: the template always names the key's secret; a local endpoint needs none."""
    monkeypatch.delenv("MODEL_API_KEY", raising=False)
    monkeypatch.setenv("MODEL_SECRET", "skald/model")
    assert Settings().model_api_key is None
    secrets.create_secret(Name="skald/model", SecretString="key")
    assert Settings().model_api_key == "key"


SOURCES = [*ROOT.glob("functions/**/*.py"), *ROOT.glob("layers/core/skald/**/*.py")]


SECRET = {"environ", "payload", "token", "task_token", "dsn", "body", "model_api_key"}


def logged(path: Path) -> Iterator[str]:
    """Return the names in the arguments of a source's logger calls."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("logger."):
            for node in ast.walk(call):
                if isinstance(node, ast.Name | ast.Attribute):
                    yield ast.unparse(node).rpartition(".")[2]


def test_nothing_secret_is_logged() -> None:
    """Secrets: the logger gets no payload, no token and no environment."""
    names = {name for path in SOURCES for name in logged(path)}
    assert len(names) > 20
    assert names & SECRET == set()
