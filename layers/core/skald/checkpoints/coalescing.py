"""Writes of tasks that travel with the checkpoint they lead to, in its statement.

The last task of a step and the checkpoint that ends it are saved one right after the other, by two
threads. Who saves the task waits a moment for the checkpoint; what no checkpoint has taken along by
then, as siblings are still at work, is saved on its own, as is what comes when the checkpoint has
left already. What was taken along is safe when the checkpoint is, which its thread answers for: the
other need not wait for that, as the next step does (durability "sync").
"""

from collections.abc import Callable
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
        self._waiting: dict[Place, list[Rows]] = {}
        self._looking: set[Place] = set()
        """After which checkpoints one is looking out for writes right now."""
        self._left: dict[tuple[str, str], str] = {}
        """Which checkpoint of a thread's namespace was followed by another last."""

    def found(self, place: Place, rows: Rows) -> bool:
        """Wait for the checkpoint after `place` to take the writes along; returns whether it has.

        Where that looks out for them already, it will.
        """
        with self._changed:
            if self._left.get(place[:2]) == place.checkpoint_id:
                return False
            self._waiting.setdefault(place, []).append(rows)
            self._changed.notify_all()
            if place in self._looking or self._is_taken(place, rows):
                return True
            waiting = self._waiting[place]
            waiting.remove(rows)
            if not waiting:
                del self._waiting[place]
            return False

    def taken(self, before: Place) -> list[Write]:
        """Take along what waits for the checkpoint after `before`, to be saved with it."""
        with self._changed:
            self._looking.add(before)
            self._changed.wait_for(lambda: before in self._waiting, _PASSING_SECONDS)
            self._looking.discard(before)
            self._left[before[:2]] = before.checkpoint_id
            taken = self._waiting.pop(before, [])
            self._changed.notify_all()
        return [write for rows in taken for write in rows()]

    def forget(self, thread_id: str) -> None:
        """Forget a thread that nobody here writes any more."""
        with self._changed:
            for key in [key for key in self._left if key[0] == thread_id]:
                del self._left[key]

    def _is_taken(self, place: Place, rows: Rows) -> bool:
        return self._changed.wait_for(
            lambda: rows not in self._waiting.get(place, ()), MOMENT_SECONDS
        )
