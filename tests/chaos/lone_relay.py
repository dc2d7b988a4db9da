"""A relay in its own process that kills itself: `lone_relay.py before|after|never`.

Its environment is that of the deployed relay, with POSTGRES_DSN for the relay's role. It prints how
many events it has sent.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence

from operations.relay import _sender
from skald.messaging import Envelope
from skald.messaging.queues import Failure, SqsSender
from skald.messaging.relay import drain
from skald.postgres import Database


class DyingSender:
    """Sends as the real sender does, and dies before or after it."""

    def __init__(self, sender: SqsSender, moment: str) -> None:
        self._sender = sender
        self._moment = moment

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        if self._moment == "after":
            failures = self._sender.send(events)
            if failures:
                raise RuntimeError(f"not sent: {failures}")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("this process is dead")


if __name__ == "__main__":
    moment = sys.argv[1]
    sender = _sender()
    outcome = drain(
        Database(os.environ["POSTGRES_DSN"]),
        sender if moment == "never" else DyingSender(sender, moment),
    )
    print(outcome.sent)
