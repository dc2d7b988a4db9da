"""Write coalescing: what a task wrote is saved in one statement with the checkpoint after it.

The last task of a step and the checkpoint that ends the step are saved one right after the other,
by two threads. The thread of the task offers its writes and waits a moment for the checkpoint. If
no checkpoint comes, because other tasks of the step still work, the task's thread saves them
itself. It also does so if the checkpoint has been saved already. Writes that a checkpoint has
collected are safe when the checkpoint is safe. The task's thread does not wait for that, but the
next step does (durability "sync").
"""

from collections.abc import Callable
from threading import Condition

from skald.checkpoints.store import Place, Write

MOMENT_SECONDS = 0.02
"""How long writes wait for a checkpoint."""
_PASSING_SECONDS = 0.001
"""How long a checkpoint waits for writes that are about to be offered."""

type MakeRows = Callable[[], list[Write]]
"""Makes the rows when they are saved: they may be differences to the checkpoint before."""


class WriteCoalescer:
    """Brings together writes of tasks and the checkpoints that follow them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._offered: dict[Place, list[MakeRows]] = {}
        """Writes that wait, by the checkpoint that their task ran after."""
        self._collecting: set[Place] = set()
        """Checkpoints whose successor waits for writes right now."""
        self._collected: dict[tuple[str, str], str] = {}
        """The last checkpoint of a thread's namespace whose successor has collected."""

    def offer(self, after: Place, rows: MakeRows) -> bool:
        """Offer what a task wrote after a checkpoint; returns whether the next one saves it.

        Waits up to `MOMENT_SECONDS`. On False the caller has to save the writes.
        """
        with self._changed:
            if self._collected.get(after[:2]) == after.checkpoint_id:
                return False
            self._offered.setdefault(after, []).append(rows)
            self._changed.notify_all()
            if after in self._collecting or self._is_collected(after, rows):
                return True
            waiting = self._offered[after]
            waiting.remove(rows)
            if not waiting:
                del self._offered[after]
            return False

    def collect(self, after: Place) -> list[Write]:
        """Return the writes offered after a checkpoint, to be saved with the next one."""
        with self._changed:
            self._collecting.add(after)
            self._changed.wait_for(lambda: after in self._offered, _PASSING_SECONDS)
            self._collecting.discard(after)
            self._collected[after[:2]] = after.checkpoint_id
            collected = self._offered.pop(after, [])
            self._changed.notify_all()
        return [write for rows in collected for write in rows()]

    def forget(self, thread_id: str) -> None:
        """Forget a thread that has no writer here any more."""
        with self._changed:
            for key in [key for key in self._collected if key[0] == thread_id]:
                del self._collected[key]

    def _is_collected(self, after: Place, rows: MakeRows) -> bool:
        return self._changed.wait_for(
            lambda: rows not in self._offered.get(after, ()), MOMENT_SECONDS
        )
