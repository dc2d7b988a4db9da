"""Assigns codes to rules: by the code's name, by its messages, or by neighbouring codes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from batches.analysis.rules import Rule, rule_for
from batches.analysis.statistics import ParsedFile, completed, ranked_codes
from batches.features import CriticalEvent, Features

_DETAIL_CODES = {"dropouts": "ULOG_DROPOUT"}
"""Name of a detail that is a count -> the code under which it counts."""
_FAMILY = re.compile(r"([A-Z]+-?\d+)\d\d")
_WORDS = re.compile(r"[A-Z]+")
_CATCH_ALL = re.compile(r"(?:Exception|Error|ERROR)$|^(?:CODE_|ERRNO_|OTHER$)")
"""Catch-all codes, which have many causes: one message does not explain the others."""
_RANGE_SECONDS = 2
"""The least seconds out of range that count for a decoded CAN signal.

A shorter time is a glitch, for example a starter motor or a damaged frame.
"""


@dataclass
class Sighting:
    """The occurrences of one code in one file, and the events that were kept."""

    file: str
    code: str
    count: int
    events: list[CriticalEvent] = field(default_factory=list)
    guessed: bool = False
    """The meaning comes from a neighbouring code or from an expert, not from the code itself."""
    least: int = 1
    """Fewer occurrences than this in one unit never give a finding, for any rule."""


@dataclass
class Explained:
    """The batch's codes: those that a rule explains, and those that no rule explains."""

    sightings: defaultdict[Rule, list[Sighting]] = field(default_factory=lambda: defaultdict(list))
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_by_file: defaultdict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def attribute(self, rule: Rule, seen: Sighting) -> None:
        """Assign to a rule the occurrences of a sighting that no rule explains yet.

        Of a catch-all code, at most the quoted events are assigned.
        """
        left = self.unknown_by_file[seen.file][seen.code]
        count = min(left, len(seen.events)) if _CATCH_ALL.search(seen.code) else left
        if count:
            self._change_unknown(seen.file, seen.code, -count)
            self.sightings[rule].append(replace(seen, count=count, guessed=True))

    def withdraw(self, rule: Rule, file: str) -> bool:
        """Remove a file's sightings from a rule; return whether there were any."""
        taken = [sighting for sighting in self.sightings[rule] if sighting.file == file]
        for sighting in taken:
            self.sightings[rule].remove(sighting)
            self._change_unknown(file, sighting.code, sighting.count)
        return bool(taken)

    def _change_unknown(self, file: str, code: str, by: int) -> None:
        for counter in (self.unknown, self.unknown_by_file[file]):
            counter[code] += by
            if not counter[code]:
                del counter[code]


def explain(files: Sequence[ParsedFile]) -> Explained:
    """Sort the codes of all files by the rule that explains them."""
    parsed = completed(files)
    meanings = _learn_meanings(features for _, features in parsed)
    explained = Explained()
    for file, features in parsed:
        _explain_details(explained, file.name, features)
        for code, count in ranked_codes(features):
            seen = sighting(file.name, features, code, count)
            events = seen.events
            if rule := meanings.get(code) or _by_name(code, events):
                explained.sightings[rule].append(seen)
            elif not events and (rule := _neighbour(code, features, meanings)):
                explained.sightings[rule].append(Sighting(file.name, code, count, guessed=True))
            else:
                _explain_by_message(explained, file.name, code, count, events)
    return explained


def sighting(file: str, features: Features, code: str, count: int) -> Sighting:
    """Return the sighting of a code in a file, with all its kept events."""
    events = [event for event in quotable(features) if event.code == code]
    least = _RANGE_SECONDS if _is_range(code, features) else 1
    return Sighting(file, code, count, events, least=least)


def quotable(features: Features) -> list[CriticalEvent]:
    """Return the events of a file whose messages were kept."""
    return features.critical_events + features.first_errors


def _by_name(code: str, events: list[CriticalEvent]) -> Rule | None:
    """Return the rule for a code, or None if the code is only its message, cut short."""
    words = set(_WORDS.findall(code.upper())[:-1])
    is_cut = len(words) > 1 and any(
        words <= set(_WORDS.findall(event.message.upper())) for event in events
    )
    return None if is_cut else rule_for(code)


def _is_range(code: str, features: Features) -> bool:
    """Return whether the code counts the seconds that a decoded CAN signal is out of range."""
    return code.endswith("_RANGE") and "identifiers" in features.details


def _explain_details(explained: Explained, file: str, features: Features) -> None:
    """Add sightings for counts that a format reports as details, not as errors."""
    for detail, code in _DETAIL_CODES.items():
        count = features.details.get(detail)
        rule = rule_for(code)
        if rule and isinstance(count, int) and count > 0 and code not in features.top_error_codes:
            explained.sightings[rule].append(Sighting(file, code, count))


def _learn_meanings(features: Iterable[Features]) -> dict[str, Rule]:
    """Return the rules of opaque codes (`E2107`), learnt from their messages.

    All messages of a code must match the same rule. So a catch-all code such as `ERROR` has none.
    """
    heard: defaultdict[str, set[Rule | None]] = defaultdict(set)
    for one in features:
        for event in one.critical_events:
            heard[event.code].add(rule_for(event.message))
        for event in one.first_errors:
            if not _CATCH_ALL.search(event.code):
                heard[event.code].add(rule_for(event.message))
    agreed = {code: rules.pop() for code, rules in heard.items() if len(rules) == 1}
    return {code: rule for code, rule in agreed.items() if rule is not None}


def _neighbour(code: str, features: Features, meanings: dict[str, Rule]) -> Rule | None:
    """Return the rule of the neighbours of a code without messages.

    Codes are numbered by subsystem: if E2107 is a brown-out, E2101 belongs to it. The known codes
    of the same hundred in the same file must all have the same rule.
    """
    family = _FAMILY.fullmatch(code)
    if family is None:
        return None
    known = {
        meanings[other]
        for other in features.top_error_codes
        if other in meanings and other[:-2] == family[1]
    }
    return known.pop() if len(known) == 1 else None


def _explain_by_message(
    explained: Explained, file: str, code: str, count: int, events: list[CriticalEvent]
) -> None:
    by_rule: defaultdict[Rule, list[CriticalEvent]] = defaultdict(list)
    for event in events:
        if rule := rule_for(event.message):
            by_rule[rule].append(event)
    for rule, matching in by_rule.items():
        explained.sightings[rule].append(Sighting(file, code, len(matching), matching))
        count -= len(matching)
    if count > 0:
        explained.unknown[code] += count
        explained.unknown_by_file[file][code] += count
