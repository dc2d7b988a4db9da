"""Reads codes as sightings of known causes: by name, by what they say, by their neighbours."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from batches.analysis.rules import Rule, rule_for
from batches.analysis.statistics import ParsedFile, completed, ranked_codes
from batches.features import CriticalEvent, Features

_TELLING_DETAILS = {"dropouts": "ULOG_DROPOUT"}
"""Detail that counts something -> the code it goes by."""
_FAMILY = re.compile(r"([A-Z]+-?\d+)\d\d")
_WORDS = re.compile(r"[A-Z]+")
_CATCH_ALL = re.compile(r"(?:Exception|Error|ERROR)$|^(?:CODE_|ERRNO_|OTHER$)")
"""Codes that different troubles share: one line does not speak for the others."""
_RANGE_SECONDS = 2
"""A decoded signal out of range for less is a glitch: a starter motor, a damaged frame."""


@dataclass
class Sighting:
    """What one file shows of one rule under one code."""

    file: str
    code: str
    count: int
    events: list[CriticalEvent] = field(default_factory=list)
    guessed: bool = False
    """The code is opaque; its neighbour in the numbering lent it its meaning."""
    least: int = 1
    """Fewer than this from one unit convince nobody, whatever the rule."""


@dataclass
class Explained:
    """The batch's codes, sorted into those a rule explains and those none does."""

    sightings: defaultdict[Rule, list[Sighting]] = field(default_factory=lambda: defaultdict(list))
    unknown: Counter[str] = field(default_factory=Counter)
    unknown_by_file: defaultdict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def attribute(self, rule: Rule, seen: Sighting) -> None:
        """Let a rule explain what is seen, as far as none did so far.

        A code that different troubles share gives no more than the events that show this one.
        """
        left = self.unknown_by_file[seen.file][seen.code]
        count = min(left, len(seen.events)) if _CATCH_ALL.search(seen.code) else left
        if count:
            self._change_unknown(seen.file, seen.code, -count)
            self.sightings[rule].append(replace(seen, count=count, guessed=True))

    def withdraw(self, rule: Rule, file: str) -> bool:
        """Take from a rule what it explains of a file; returns whether there was anything."""
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
    """Sort the codes of all files by the rule that knows them."""
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
    """Return all that a file shows under a code."""
    events = [event for event in quotable(features) if event.code == code]
    least = _RANGE_SECONDS if _is_range(code, features) else 1
    return Sighting(file, code, count, events, least=least)


def quotable(features: Features) -> list[CriticalEvent]:
    """Return the events of a file whose words were kept."""
    return features.critical_events + features.first_errors


def _by_name(code: str, events: list[CriticalEvent]) -> Rule | None:
    """Return the rule that knows a code, unless the code only repeats its message, cut short."""
    words = set(_WORDS.findall(code.upper())[:-1])
    is_cut = len(words) > 1 and any(
        words <= set(_WORDS.findall(event.message.upper())) for event in events
    )
    return None if is_cut else rule_for(code)


def _is_range(code: str, features: Features) -> bool:
    """Say whether this counts the seconds a decoded CAN signal was out of its range."""
    return code.endswith("_RANGE") and "identifiers" in features.details


def _explain_details(explained: Explained, file: str, features: Features) -> None:
    """Take up what a format reports as a detail because it is no error of the vehicle."""
    for detail, code in _TELLING_DETAILS.items():
        count = features.details.get(detail)
        rule = rule_for(code)
        if rule and isinstance(count, int) and count > 0 and code not in features.top_error_codes:
            explained.sightings[rule].append(Sighting(file, code, count))


def _learn_meanings(features: Iterable[Features]) -> dict[str, Rule]:
    """Learn what opaque codes (`E2107`) mean from the messages that carry them.

    Only where all messages of a code agree: a catch-all code such as `ERROR` stays opaque.
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
    """Find what the codes next to a silent one mean: E2107 is a brown-out, so E2101 belongs to it.

    Codes are numbered by subsystem; one file, one hundred, and one meaning is needed.
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
