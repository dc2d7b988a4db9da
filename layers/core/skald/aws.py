"""AWS clients, made once per environment and only when a request needs one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

READ_SECONDS = 30.0
RETRIES = 4


@overload
def client(service: Literal["s3"]) -> S3Client: ...
@overload
def client(service: Literal["sqs"]) -> SQSClient: ...
@overload
def client(service: Literal["stepfunctions"]) -> SFNClient: ...
@overload
def client(service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
@overload
def client(
    service: Literal["bedrock-runtime"], *, read_seconds: float = ..., retries: int = ...
) -> BedrockRuntimeClient: ...
def client(service: str, *, read_seconds: float = READ_SECONDS, retries: int = RETRIES) -> object:
    """Return the shared client of a service; boto3 is imported by the first call."""
    return _client(service, read_seconds, retries)


@cache
def _client(service: str, read_seconds: float, retries: int) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(  # type: ignore[call-overload]
        service,
        config=Config(
            connect_timeout=3,
            read_timeout=read_seconds,
            retries={"mode": "standard", "max_attempts": retries},
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "path"} if service == "s3" else None,
        ),
    )
