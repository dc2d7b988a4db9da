"""Writes of tasks that travel with the checkpoint they lead to, in its statement.

The last task of a step and the checkpoint that ends it are saved one right after the other, by two
threads. Who saves the task waits a moment for the checkpoint; what no checkpoint has taken along by
then, as siblings are still at work, is saved on its own, as is what comes when the checkpoint has
left already. Either way it is safe when that returns.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition

from skald.checkpoints.store import Place, Write

MOMENT_SECONDS = 0.02
_PASSING_SECONDS = 0.001
"""How long a checkpoint looks out for writes that were on their way before it."""

type Rows = Callable[[], list[Write]]
"""Makes the rows when they are saved: of the checkpoint before, which is saved by then."""


class Company:
    """Writes on their way, by thread."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: dict[Place, list[tuple[Rows, Future[None]]]] = {}
        self._left: dict[tuple[str, str], str] = {}
        """Which checkpoint of a thread's namespace was followed by another last."""

    def found(self, place: Place, rows: Rows) -> bool:
        """Wait for the checkpoint after `place` to take the writes along; returns whether it did.

        Raises what kept that checkpoint from being saved.
        """
        saved: Future[None] = Future()
        with self._changed:
            if self._left.get(place[:2]) == place.checkpoint_id:
                return False
            self._waiting.setdefault(place, []).append((rows, saved))
            self._changed.notify_all()
        try:
            saved.result(MOMENT_SECONDS)
        except TimeoutError:
            if saved.cancel():
                return False
            saved.result()  # it is being saved, or what was raised was no timeout of ours
        return True

    @contextmanager
    def taken(self, before: Place) -> Iterator[list[Write]]:
        """Take along what waits for the checkpoint after `before`; the block saves it."""
        with self._changed:
            self._changed.wait_for(lambda: before in self._waiting, _PASSING_SECONDS)
            self._left[before[:2]] = before.checkpoint_id
            waiting = self._waiting.pop(before, [])
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
        with self._changed:
            for place in [place for place in self._waiting if place.thread_id == thread_id]:
                del self._waiting[place]
            for key in [key for key in self._left if key[0] == thread_id]:
                del self._left[key]
