"""The one writer of a thread: its lease, its token, and three attempts to save (G-02)."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg

from skald.checkpoints import threads
from skald.checkpoints.errors import NeedsManualIntervention, ThreadBusy
from skald.postgres import Call, Database
from skald.telemetry import logger, metrics

SAVE_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1

type Save = Callable[[int], bool]
"""One save with a token; False if the token is no longer that of the thread's writer."""


class Writers:
    """The threads of a tenant that this process writes, each with its token."""

    def __init__(self, database: Database, tenant_id: UUID, lease: timedelta) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._call: Call = partial(database.call, tenant_id)
        self.lease = lease
        self.tokens: dict[str, int] = {}

    @contextmanager
    def writing(self, thread_id: str) -> Iterator[bool]:
        """Be the thread's only writer for the block; yields whether it has no checkpoint yet.

        Raises `ThreadBusy` while another writer has it, and `NeedsManualIntervention` for a parked
        thread.
        """
        taken = threads.take(self._call, thread_id, self.lease)
        self.tokens[thread_id] = taken.token
        try:
            yield taken.is_new
        finally:
            token = self.tokens.pop(thread_id)
            threads.leave(self._call, thread_id, token)

    @contextmanager
    def writer(self, thread_id: str) -> Iterator[int]:
        """Yield the token that is held, or a new one for the block."""
        if thread_id in self.tokens:
            yield self.tokens[thread_id]
            return
        with self.writing(thread_id):
            yield self.tokens[thread_id]

    def renew(self, thread_id: str) -> None:
        """Prolong the lease; raises `ThreadBusy` when the thread was taken over."""
        with self._database.single_statement(self._tenant_id) as tx:
            threads.renew(tx, thread_id, self.tokens[thread_id], self.lease)

    def resolve(self, thread_id: str) -> bool:
        """Unpark a thread; returns whether it was parked."""
        with self._database.single_statement(self._tenant_id) as tx:
            return threads.unpark(tx, thread_id)

    def save(self, thread_id: str, save: Save) -> None:
        """Save with the thread's token in at most three attempts; then park the thread (G-02)."""
        for attempt in range(1, SAVE_ATTEMPTS + 1):
            try:
                with self.writer(thread_id) as token:
                    if not save(token):
                        raise ThreadBusy(f"thread {thread_id} was taken over")
                return
            except psycopg.OperationalError as error:
                logger.warning(
                    "checkpoint not saved", extra={"attempt": attempt, "error": str(error)}
                )
                failure = error
            time.sleep(_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        self._park(thread_id, f"{type(failure).__name__}: {failure}")
        raise NeedsManualIntervention(
            f"no checkpoint of thread {thread_id} in {SAVE_ATTEMPTS} attempts"
        ) from failure

    def _park(self, thread_id: str, error: str) -> None:
        metrics.count("checkpoints_parked_count")
        try:
            with self._database.single_statement(self._tenant_id) as tx:
                threads.park(tx, thread_id, SAVE_ATTEMPTS, error)
        except psycopg.Error:
            logger.exception("thread not parked", extra={"thread_id": thread_id})
