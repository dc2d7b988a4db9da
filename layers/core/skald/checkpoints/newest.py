"""What a writer remembers of its threads: nobody else can make a newer checkpoint meanwhile."""

from collections.abc import Mapping

from skald.checkpoints.store import Place
from skald.checkpoints.values import Value


class Newest:
    """The great values of the newest checkpoint of each namespace of a thread, if it has any."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, Mapping[str, Value]]] = {}
        self._empty: set[str] = set()

    def note_empty(self, thread_id: str) -> None:
        """Remember that nothing is stored of a thread, until something is about to be."""
        self._empty.add(thread_id)

    def is_empty(self, thread_id: str) -> bool:
        return thread_id in self._empty

    def fill(self, thread_id: str) -> None:
        """Say that something is about to be stored."""
        self._empty.discard(thread_id)

    def at(self, place: Place) -> Mapping[str, Value] | None:
        """Return what is known of the newest checkpoint, None for any other."""
        checkpoint_id, great = self._known.get(place[:2], (None, {}))
        return great if checkpoint_id == place.checkpoint_id else None

    def note(self, place: Place, great: Mapping[str, Value]) -> None:
        self._known[place[:2]] = (place.checkpoint_id, great)

    def forget(self, thread_id: str) -> None:
        self._empty.discard(thread_id)
        for key in [key for key in self._known if key[0] == thread_id]:
            del self._known[key]
