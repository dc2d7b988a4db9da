"""A relay in its own process. It prints one line per event that it sends, and `done` at its end."""

import os
from collections.abc import Mapping, Sequence

from skald.messaging import Envelope
from skald.messaging.queues import Failure
from skald.messaging.relay import drain
from skald.postgres import Database


def say(*words: object) -> None:
    print(*words, flush=True)


class Speaker:
    """Prints what it sends."""

    def send(self, events: Sequence[Envelope]) -> Mapping[str, Failure]:
        for event in events:
            say("sent", event.event_id, event.target_id, event.payload["number"])
        return {}


if __name__ == "__main__":
    drain(Database(os.environ["POSTGRES_DSN"]), Speaker())
    say("done")
