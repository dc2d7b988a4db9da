"""Writes of tasks that travel with the checkpoint they lead to, in its statement.

The last task of a step and the checkpoint that ends it are saved one right after the other, by two
threads. Who saves the task waits a moment for the checkpoint; what no checkpoint has taken along by
then, as siblings are still at work, is saved on its own, as is what comes when the checkpoint has
left already. Either way it is safe when that returns.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock

from skald.checkpoints.store import Place, Write

MOMENT_SECONDS = 0.02

type Rows = Callable[[], list[Write]]
"""Makes the rows when they are saved: of the checkpoint before, which is saved by then."""


class Company:
    """Writes on their way, by thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, list[tuple[Rows, Future[None]]]] = {}
        self._left: dict[tuple[str, str], str | None] = {}
        """Which checkpoint of a thread's namespace was followed by another last."""

    def found(self, place: Place, rows: Rows) -> bool:
        """Wait for the checkpoint after `place` to take the writes along; returns whether it did.

        Raises what kept that checkpoint from being saved.
        """
        saved: Future[None] = Future()
        with self._lock:
            if self._left.get(place[:2]) == place.checkpoint_id:
                return False
            self._waiting.setdefault(place.thread_id, []).append((rows, saved))
        try:
            saved.result(MOMENT_SECONDS)
        except TimeoutError:
            if saved.cancel():
                return False
            saved.result()  # it is being saved, or what was raised was no timeout of ours
        return True

    @contextmanager
    def taken(self, place: Place, parent: str | None) -> Iterator[list[Write]]:
        """Take along all that waits for the checkpoint at `place`; the block saves it."""
        with self._lock:
            self._left[place[:2]] = parent
            waiting = self._waiting.pop(place.thread_id, [])
        taken = [(rows, saved) for rows, saved in waiting if saved.set_running_or_notify_cancel()]
        try:
            yield [write for rows, _ in taken for write in rows()]
        except BaseException as error:
            for _, saved in taken:
                saved.set_exception(error)
            raise
        for _, saved in taken:
            saved.set_result(None)

    def forget(self, thread_id: str) -> None:
        """Forget a thread that nobody here writes any more."""
        with self._lock:
            self._waiting.pop(thread_id, None)
            for key in [key for key in self._left if key[0] == thread_id]:
                del self._left[key]
