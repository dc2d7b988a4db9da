"""Assigns files to log experts: one expert per format, at most `MOST_SHARES`."""

from collections import Counter
from collections.abc import Sequence

from batches.analysis.statistics import ParsedFile, completed

MOST_SHARES = 4
OTHER_FORMATS = "other"


def shares(files: Sequence[ParsedFile]) -> dict[str, list[ParsedFile]]:
    """Return the files by format, the format with most errors and warnings first.

    The formats with the fewest share one expert. A format without any needs no expert.
    """
    parsed = completed(files)
    trouble: Counter[str] = Counter()
    for _, features in parsed:
        trouble[features.format] += features.error_count + features.warning_count
    ranked = [name for name, count in sorted(trouble.items(), key=_most_first) if count]
    own = ranked if len(ranked) <= MOST_SHARES else ranked[: MOST_SHARES - 1]
    found: dict[str, list[ParsedFile]] = {}
    for name in ranked:
        share = found.setdefault(name if name in own else OTHER_FORMATS, [])
        share += [file for file, features in parsed if features.format == name]
    return found


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
