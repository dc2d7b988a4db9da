"""The process all others are forked from: it has imported everything and made its AWS clients.

Reading the descriptions of AWS's services would take each of them longer than all it does.
"""

from tests.integration.crash import scenarios

from skald.aws import client

__all__ = ["scenarios"]

client("s3")
client("sqs")
