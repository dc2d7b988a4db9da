"""A relay in a process of its own, which says what it sends and may be told where to stop.

    python -m tests.integration.messaging.child [after-lease|after-send|before-commit]

It prints one line per event sent, `stopped` when it waits to be killed, `done` at its end.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from uuid import UUID

from skald.messaging import Envelope, outbox
from skald.messaging.queues import Failure
from skald.messaging.relay import drain
from skald.state.postgres import Database, Transaction


def say(*words: object) -> None:
    print(*words, flush=True)


def stop() -> None:
    say("stopped")
    threading.Event().wait()


class Speaker:
    """Says what it sends."""

    def __init__(self, boundary: str) -> None:
        self._boundary = boundary

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        if self._boundary == "after-lease":
            stop()
        for event in events:
            say("sent", event.event_id, event.target_id, event.payload["number"])
        if self._boundary == "after-send":
            stop()
        return {}


def main(boundary: str) -> None:
    if boundary == "before-commit":
        finish = outbox.finish

        def finish_and_stop(transaction: Transaction, token: UUID, positions: list[int]) -> int:
            finished = finish(transaction, token, positions)
            stop()
            return finished

        outbox.finish = finish_and_stop
    drain(Database(os.environ["POSTGRES_DSN"]), Speaker(boundary))
    say("done")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
