"""Asks questions over the desk in its own process: `asker.py PLACES SECONDS QUESTION...`.

Prints question, answer and whether it was repeated, a line each. POSTGRES_DSN, REDIS_DSN, MODEL and
TENANT are in the environment. With KILLED_AFTER_ANSWER it dies by SIGKILL once it has an answer.
"""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

from redis import RedisError

from skald.models import Answer, Desk, Model, Question, chosen_model
from skald.postgres import database
from skald.valkey import valkey

TENANT = UUID(os.environ["TENANT"])


class Nobody:
    """A model that is never asked: there is no offline expert here."""

    name = "nobody"
    is_offline = True
    answer = None


def insistently(ask: Callable[[], Answer]) -> Answer:
    """Ask again while Redis does not answer, as a redelivered message does."""
    while True:
        with suppress(RedisError):
            return ask()


def main(places: int, seconds: float, prompts: list[str]) -> None:
    nobody: Model = Nobody()  # type: ignore[assignment]  # never asked
    desk = Desk(chosen_model(nobody), database(), valkey(), places=places, wait_seconds=120)

    def ask(prompt: str) -> None:
        question = Question("judge", "Be brief.", prompt, seconds=seconds)
        answer = insistently(lambda: desk.ask(question, tenant_id=TENANT, subject="test"))
        if os.environ.get("KILLED_AFTER_ANSWER"):
            os.kill(os.getpid(), signal.SIGKILL)
        print(prompt, answer.text, answer.is_repeated, flush=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, prompts))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
