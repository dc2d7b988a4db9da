"""Generates varied fleets: other wordings and codes, 0 to 5 faults, noise and wrong clocks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fleet.catalogue import CATALOGUE, Fault, Line
from fleet.generate import NIGHT, Vehicle, write_fleet
from fleet.truth import Truth
from fleet.wordings import Wordings

_SALT = 31
_FAULTS_AT_MOST = 5
_SECONDS = 30.0
_CHATTER = 900
_EVERYDAY = {"bus": 4, "network": 8, "authentication": 2, "positioning": 4, "sensor_range": 2}
"""Fewer occurrences than this are normal and not a fault: a lost frame, a tunnel."""
_CLOCKS = (NIGHT, NIGHT, NIGHT + 7200.0, NIGHT - 86_400.0 * 400, 3600.0)
"""Clocks: right, right, in another time zone, after an empty battery, and never set."""
_PLAIN = {fault.rule: fault for fault in CATALOGUE}


def generate_wild(directory: Path, wordings: Wordings, *, seed: int) -> Truth:
    """Write a fleet of 4 to 8 vehicles with up to 5 faults, which may share a vehicle."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((_SALT, seed))
    fleet = [_vehicle(index, wordings, rng) for index in range(int(rng.integers(4, 9)))]
    rules = sorted(wordings.faults)
    for at in rng.permutation(len(rules))[: rng.integers(0, _FAULTS_AT_MOST + 1)]:
        _plant(rules[at], wordings, fleet, rng)
    truth = Truth(seed=seed, vehicles=[vehicle.name for vehicle in fleet])
    write_fleet(directory, fleet, truth, rng)
    return truth


def _vehicle(index: int, wordings: Wordings, rng: np.random.Generator) -> Vehicle:
    strays = [
        replace(wordings.harmless[at], times=int(rng.integers(1, 4)))
        for at in rng.permutation(len(wordings.harmless))[: rng.integers(0, 4)]
    ]
    return Vehicle(
        f"vehicle-{index + 1:02d}",
        index,
        strays=strays,
        start=float(rng.choice(_CLOCKS)),
        seconds=_SECONDS,
        chatter=_CHATTER,
        cranks=bool(rng.random() < 0.3),
    )


def _plant(rule: str, wordings: Wordings, fleet: list[Vehicle], rng: np.random.Generator) -> None:
    dialects = wordings.faults[rule]
    fault = _worded(rule, dialects[int(rng.integers(len(dialects)))], rng)
    on_bus = replace(fault, can=_PLAIN[rule].can, dtc=_PLAIN[rule].dtc) if rule in _PLAIN else fault
    for at in rng.permutation(len(fleet))[: rng.integers(1, 3)]:
        shows = on_bus if rng.random() < 0.5 and fleet[at].can_carry(on_bus) else fault
        fleet[at].faults.append(shows)


def _worded(rule: str, dialect: tuple[Line, ...], rng: np.random.Generator) -> Fault:
    """Return the fault with codes, if this manufacturer uses some, and with random counts."""
    family, coded = int(rng.integers(10, 99)), bool(rng.random() < 0.5)
    few = _EVERYDAY.get(rule, 1)
    lines = tuple(
        replace(
            line,
            code=f"E{family}{number:02d}" if coded else "",
            times=int(rng.integers(few, 6 * few + 6)),
        )
        for number, line in enumerate(dialect, start=1)
    )
    title = _PLAIN[rule].title if rule in _PLAIN else rule
    return Fault(key=rule, rule=rule, title=title, lines=lines)
