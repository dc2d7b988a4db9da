"""Measures precision and recall of the diagnosis per rule, on fleets with planted faults."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self
from uuid import uuid4

from batches.agents import Case, investigate
from batches.analysis.diagnosis import Diagnosis, diagnose
from batches.analysis.statistics import ParsedFile, gather_statistics
from batches.parsing import LocalSink, LocalSource, Rejected, parse
from fleet.generate import generate
from fleet.truth import Truth
from fleet.wild import generate_wild
from fleet.wordings import KNOWN, UNSEEN

type Judge = Callable[[Sequence[ParsedFile]], Diagnosis]
type Kind = Literal["demo", "known", "unseen"]
KINDS: tuple[Kind, ...] = ("demo", "known", "unseen")
"""The demo's fleets, varied fleets with `KNOWN` wordings, and varied fleets with `UNSEEN` ones."""
_GENERIC = {"error_burst", "systemic_code", "outlier_file"}
"""Findings without a cause; in a vehicle with any planted fault, they are not counted."""
_MAX_BYTES = 10**8


def by_rules(files: Sequence[ParsedFile]) -> Diagnosis:
    """Diagnose by the rules alone."""
    return diagnose(files, gather_statistics(files))


def by_agents(files: Sequence[ParsedFile]) -> Diagnosis:
    """Diagnose by the agents with their offline expert, as a new tenant.

    The servers must run, and the library must be loaded.
    """
    case = Case(
        tenant_id=uuid4(), batch_id=uuid4(), files=[*files], statistics=gather_statistics(files)
    )
    with redirect_stdout(StringIO()):  # the kernel prints metrics to stdout; this is for results
        return investigate(case, thread_id=str(case.batch_id))


JUDGES: dict[str, Judge] = {"rules": by_rules, "agents": by_agents}


@dataclass
class Tally:
    """How often a cause was named correctly, missed, and named without being planted."""

    right: int = 0
    missed: int = 0
    invented: int = 0

    @property
    def precision(self) -> float | None:
        """The share of named causes that are right; None if none was named."""
        return _share(self.right, self.invented)

    @property
    def recall(self) -> float | None:
        """The share of planted causes that were named; None if none was planted."""
        return _share(self.right, self.missed)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.right + other.right, self.missed + other.missed, self.invented + other.invented
        )


@dataclass
class Score:
    """Tallies per rule, counted per vehicle; the right cause in a wrong vehicle is invented."""

    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    mistakes: list[str] = field(default_factory=list)

    @property
    def total(self) -> Tally:
        return sum(self.tallies.values(), Tally())

    @classmethod
    def of(cls, truth: Truth, diagnosis: Diagnosis) -> Self:
        """Return the score of one diagnosis."""
        score = cls()
        score.mark(truth, diagnosis)
        return score

    def mark(self, truth: Truth, diagnosis: Diagnosis) -> None:
        """Add the comparison of the planted causes with the named causes."""
        planted = {(fault.rule, vehicle) for fault in truth.faults for vehicle in fault.vehicles}
        named = {
            (finding.rule, name.partition(".")[0])
            for finding in diagnosis.findings
            for name in finding.affected_files
        }
        faulty = {vehicle for _, vehicle in planted}
        named -= {
            (rule, vehicle) for rule, vehicle in named if rule in _GENERIC and vehicle in faulty
        }
        for rule, vehicle in sorted(planted | named):
            tally = self.tallies[rule]
            tally.right += (rule, vehicle) in planted & named
            tally.missed += (rule, vehicle) in planted - named
            tally.invented += (rule, vehicle) in named - planted
        for verb, pairs in (("missed", planted - named), ("invented", named - planted)):
            self.mistakes += [
                f"seed {truth.seed}: {verb} {rule} in {vehicle}" for rule, vehicle in sorted(pairs)
            ]

    def add(self, other: "Score") -> None:
        """Add the tallies of another score."""
        for rule, tally in other.tallies.items():
            self.tallies[rule] += tally
        self.mistakes += other.mistakes


def judge_fleet(kind: Kind, seed: int, judges: Sequence[Judge] = (by_rules,)) -> list[Score]:
    """Generate and parse one fleet; return the score of each judge's diagnosis."""
    with TemporaryDirectory(prefix="skald-fleet-") as folder:
        directory = Path(folder)
        truth = write(kind, directory, seed)
        files = parse_fleet(truth, directory)
    return [Score.of(truth, judge(files)) for judge in judges]


def write(kind: Kind, directory: Path, seed: int) -> Truth:
    """Write the fleet of this kind."""
    if kind == "demo":
        return generate(directory, seed=seed)
    return generate_wild(directory, KNOWN if kind == "known" else UNSEEN, seed=seed)


def parse_fleet(truth: Truth, directory: Path) -> list[ParsedFile]:
    """Parse the files of a fleet with the real parsers, in this process."""
    databases = {"fleet.dbc": (directory / "fleet.dbc").read_text(encoding="ascii")}
    return [
        parse_file(directory / file.name, directory / "tables", databases) for file in truth.files
    ]


def parse_file(path: Path, tables: Path, databases: Mapping[str, str]) -> ParsedFile:
    """Parse one file; its tables go to a folder with its name."""
    file = ParsedFile(file_id=path.name, name=path.name, status="completed")
    try:
        with LocalSink(tables / path.name) as sink:
            features = parse(LocalSource(path), sink, databases, max_bytes=_MAX_BYTES)
    except Rejected as reason:
        return file.model_copy(update={"status": "failed", "reason": str(reason)})
    return file.model_copy(update={"features": features})


def together(scores: Iterable[Score]) -> Score:
    """Return the sum of the scores."""
    total = Score()
    for score in scores:
        total.add(score)
    return total


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None
