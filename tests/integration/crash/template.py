"""The process all others are forked from: it has imported everything and made its AWS clients.

Reading the descriptions of AWS's services would take each of them longer than all it does.
"""

from tests.integration.crash import scenarios

from batches.analysis import charts, report
from skald.aws import client

__all__ = ["charts", "report", "scenarios"]

client("s3")
client("sqs")
client("stepfunctions")
