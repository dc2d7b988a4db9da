"""Index of the features of a case, by the file names that the experts see."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from batches.agents.shapes import Observation, Quote
from batches.analysis.sightings import Sighting, quotable, sighting
from batches.analysis.statistics import ParsedFile, completed
from batches.features import CriticalEvent, Features

NAME_SHOWN = 80
"""Characters of a file name or a code that an expert sees."""
_SHORTEST_QUOTE = 6
_BRACKETS = str.maketrans("<>", "‹›")


def plain(text: str, limit: int = NAME_SHOWN) -> str:
    """Return the text as one line of printable characters without angle brackets.

    So the text cannot close the tags that mark it as data in a prompt.
    """
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else "·" for one in line).translate(_BRACKETS)[:limit]


class CaseIndex:
    """Finds the files and events that an expert cites; it ignores citations without a match."""

    def __init__(self, files: Sequence[ParsedFile]) -> None:
        self._files = {plain(file.name): (file.name, one) for file, one in completed(files)}

    def files(self, shown: Sequence[str]) -> list[str]:
        """Return the full names of those files that exist, in the same order."""
        return [self._files[name][0] for name in shown if name in self._files]

    def sightings(self, observation: Observation) -> list[Sighting]:
        """Return what the features show for an observation.

        The result is empty when the observation has quotes and no file contains any of them.
        """
        found: dict[tuple[str, str], Sighting] = {}
        for file, features, event in self._quoted(observation.quotes):
            count = features.top_error_codes.get(event.code, 1)
            whole = sighting(file, features, event.code, count)
            meant = found.setdefault((file, event.code), replace(whole, events=[]))
            meant.events.append(event)
        if observation.quotes and not found:
            return []
        for file, features in self._named(observation.files):
            for code, count in features.top_error_codes.items():
                if plain(code) in observation.error_codes:
                    found.setdefault((file, code), sighting(file, features, code, count))
        return [*found.values()]

    def _quoted(self, quotes: Sequence[Quote]) -> Iterator[tuple[str, Features, CriticalEvent]]:
        for quote in quotes:
            words = plain(quote.text, len(quote.text)).casefold()
            if quote.file not in self._files or len(words) < _SHORTEST_QUOTE:
                continue
            name, features = self._files[quote.file]
            for event in quotable(features):
                if words in plain(event.message, len(event.message)).casefold():
                    yield name, features, event

    def _named(self, shown: Sequence[str]) -> Iterator[tuple[str, Features]]:
        """Yield the named files that exist, or all files when none is named."""
        names = shown or [*self._files]
        return (self._files[name] for name in names if name in self._files)
