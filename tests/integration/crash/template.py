"""The process that all others are forked from: it has imported everything and has AWS clients.

Loading the descriptions of the AWS services would take each process longer than its work.
"""

from tests.integration.crash import scenarios

from batches.analysis import charts, report
from skald.aws import client

__all__ = ["charts", "report", "scenarios"]

client("s3")
client("sqs")
client("stepfunctions")
