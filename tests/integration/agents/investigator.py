"""Diagnoses a case in its own process, and dies: `investigator.py CASE THREAD MOMENT NODE`.

CASE is a file with the case. The process kills itself when NODE reaches MOMENT (`entered` or
`finished`), once the nodes that work beside it have finished. POSTGRES_DSN, REDIS_DSN and MODEL are
in the environment.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import override

from tests.integration.agents.listener import Listener

from batches.agents import Case, investigate

SIDE_BY_SIDE = {"log_expert:text", "log_expert:candump", "retrieval_expert"}


class Killer(Listener):
    """A watcher that kills the process at a moment."""

    def __init__(self, moment: str, node: str) -> None:
        super().__init__()
        self._moment = (moment, node)
        self._changed = threading.Condition()

    @override
    def entered(self, node: str) -> None:
        self._at("entered", node)

    @override
    def finished(self, node: str, summary: str) -> None:
        with self._changed:
            super().finished(node, summary)
            self._changed.notify_all()
        self._at("finished", node)

    def _at(self, moment: str, node: str) -> None:
        if (moment, node) != self._moment:
            return
        beside = SIDE_BY_SIDE - {node} if node in SIDE_BY_SIDE else set()
        with self._changed:
            self._changed.wait_for(lambda: beside <= set(self.nodes("finished")), timeout=30)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    case = Case.model_validate_json(Path(sys.argv[1]).read_text())
    investigate(case, thread_id=sys.argv[2], watcher=Killer(*sys.argv[3:5]))
