"""Cold starts: what the first request of a function loads beyond its entry point."""

import json

from tests.cold_start import modules_after
from tests.integration.support import proxy_event

SERVE = """
import json, sys
from batches.api import handler
answer = handler(json.loads(sys.argv[1]), None)
assert answer["statusCode"] == 200, answer
"""


def test_a_request_loads_what_it_needs(environment: None, api_key: str) -> None:
    """Cold starts: a request that reads rows loads Redis for its limits, but no AWS client."""
    event = proxy_event("GET", "/batches", headers={"X-Api-Key": api_key})
    modules = modules_after(SERVE, json.dumps(event))
    assert "redis" in modules
    # Powertools loads `botocore` itself, a few lines, for its name in requests to AWS.
    assert modules.isdisjoint({"boto3", "botocore.session", "http.client"})
    assert "aws_lambda_powertools.event_handler.openapi.models" not in modules
    assert "aws_lambda_powertools.utilities.idempotency" not in modules
