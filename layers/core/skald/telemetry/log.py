"""JSON logs. Payloads, tokens and environments are never logged."""

import os

from aws_lambda_powertools import Logger

logger = Logger(
    service=os.environ.get("POWERTOOLS_SERVICE_NAME", "skald"),
    level=os.environ.get("LOG_LEVEL", "INFO"),
    utc=True,
)
