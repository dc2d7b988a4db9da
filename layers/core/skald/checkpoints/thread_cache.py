"""A writer's cache of its threads. It is valid while this is the only writer."""

from collections.abc import Mapping

from skald.checkpoints.store import Place
from skald.checkpoints.values import Value


class ThreadCache:
    """The large values of the newest checkpoint of each namespace, and which threads are empty."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[str, Mapping[str, Value]]] = {}
        self._empty: set[str] = set()

    def note_empty(self, thread_id: str) -> None:
        """Remember that the thread has no checkpoint."""
        self._empty.add(thread_id)

    def is_empty(self, thread_id: str) -> bool:
        return thread_id in self._empty

    def note_saving(self, thread_id: str) -> None:
        """Remember that the thread may have a checkpoint from now on."""
        self._empty.discard(thread_id)

    def put(self, newest: Place, large: Mapping[str, Value]) -> None:
        """Remember the large values of the newest checkpoint."""
        self._newest[newest[:2]] = (newest.checkpoint_id, large)

    def get(self, place: Place) -> Mapping[str, Value] | None:
        """Return the large values of a checkpoint, None unless it is the newest."""
        checkpoint_id, large = self._newest.get(place[:2], (None, {}))
        return large if checkpoint_id == place.checkpoint_id else None

    def forget(self, thread_id: str) -> None:
        self._empty.discard(thread_id)
        for key in [key for key in self._newest if key[0] == thread_id]:
            del self._newest[key]
