"""Caches two slow operations of LocalStack's state machines.

LocalStack builds a parser for each JSONPath that it evaluates; one of our pipelines has thirty. It
also assumes the role of the machine for each task, and creates a client for the new credentials.
"""

from functools import cache
from typing import Any

from localstack.services.stepfunctions.asl.utils import boto_client, json_path

_assume = boto_client.connect_to.with_assumed_role
_assumed: dict[tuple[str, str], Any] = {}


class _Roles:
    """Replaces LocalStack's client factory; LocalStack caches clients by their credentials."""

    @staticmethod
    def with_assumed_role(*, role_arn: str, region_name: str, **same: Any) -> Any:
        """Return the clients of a role; assume each role once, as other arguments never differ."""
        role = role_arn, region_name
        if role not in _assumed:
            _assumed[role] = _assume(role_arn=role_arn, region_name=region_name, **same)
        return _assumed[role]


def improve() -> None:
    """Patch LocalStack: it parses each path once and assumes each role once."""
    json_path.parse = cache(json_path.parse)
    boto_client.connect_to = _Roles
