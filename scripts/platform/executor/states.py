"""Takes from a state machine's states what LocalStack spends most of their time on.

It builds a parser for every JSONPath it evaluates, thirty in one of our pipelines, and assumes the
machine's role for every task, with a client for the new credentials.
"""

from functools import cache
from typing import Any

from localstack.services.stepfunctions.asl.utils import boto_client, json_path

_assume = boto_client.connect_to.with_assumed_role
_assumed: dict[tuple[str, str], Any] = {}


class _Roles:
    """Stands in for what connects to services; LocalStack caches clients by their credentials."""

    @staticmethod
    def with_assumed_role(*, role_arn: str, region_name: str, **same: Any) -> Any:
        """Assume each role once; what else is asked for is the same for all."""
        role = role_arn, region_name
        if role not in _assumed:
            _assumed[role] = _assume(role_arn=role_arn, region_name=region_name, **same)
        return _assumed[role]


def improve() -> None:
    """Have each path parsed and each role assumed once."""
    json_path.parse = cache(json_path.parse)
    boto_client.connect_to = _Roles
