"""Recordings whose parser waits, so that a worker stays in the middle of a file."""

from pathlib import Path

from tests.e2e.deployment import Deployment, wait_for

NAME = "long.rec"
EVENTS, ERRORS = 1_000, 9
PARSER = """
touch "$1/$$"
until [ -e "$2" ]; do sleep 0.05; done
cp "$3" "$4"
"""
RECORDING = "\n".join(
    ["timestamp,level,code,message"]
    + [f"{second},error,E4711,pump is stuck" for second in range(ERRORS)]
    + [f"{second},info,,pump turns" for second in range(ERRORS, EVENTS)]
).encode()


class Gate:
    """The gate at which the parsers of recordings wait until it opens."""

    def __init__(self, skald: Deployment, folder: Path) -> None:
        self._skald = skald
        self._begun = folder / "begun"
        self._begun.mkdir()
        self._opened = folder / "opened"
        parser = folder / "parser.sh"
        parser.write_text(PARSER)
        self.command = f"/bin/sh {parser} {self._begun} {self._opened}"

    def open(self) -> None:
        self._opened.touch()

    def worker(self, number: int = 1) -> int:
        """Wait until this number of parsers have begun. Returns the pid of the only one at work."""

        def look() -> int | None:
            begun = len([*self._begun.iterdir()])
            pids = self._skald.workers("ParseFile")
            return pids[0] if begun == number and len(pids) == 1 else None

        return wait_for("worker in the middle of its recording", look)
