"""V-13: a client can follow the work of the agents."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
from tests.integration.agents.cases import answer, strange_case
from tests.integration.agents.test_investigation import nodes
from tests.integration.batches import Fleet
from tests.integration.model_endpoint import ModelEndpoint
from tests.integration.streams import Told, ask, read, transcript
from tests.integration.support import Client, wait_until
from tests.unit.analysis.samples import parsed

from batches.agents import Case, investigate
from batches.agents.offline import CaseFacts, OfflineExpert
from batches.analysis.statistics import gather_statistics
from batches.watching import RedisWatcher
from skald.errors import Temporary
from skald.models import Answer, Desk, Question
from skald.models.interface import OnText
from skald.postgres import Database
from skald.valkey import valkey

FILES = [
    parsed("v1.log", {"E2107": 40}, critical={"E2107": "BROWNOUT supply voltage 7.3 V"}),
    parsed("v1.can", {"BatteryVoltage_RANGE": 12}, format_name="candump"),
]


@pytest.fixture
def case(fleet: Fleet, tenant: UUID) -> Case:
    """A batch whose diagnosis begins."""
    return Case(
        tenant_id=tenant,
        batch_id=fleet.diagnosing("v1.log", "v1.can"),
        files=FILES,
        statistics=gather_statistics(FILES),
    )


class DyingExpert(OfflineExpert):
    """An expert that says a few words and fails at the first question of the diagnosis expert."""

    def __init__(self) -> None:
        self.has_failed = False

    def answer(self, question: Question, on_text: OnText | None = None) -> Answer:
        if isinstance(question.facts, CaseFacts) and not self.has_failed:
            self.has_failed = True
            assert on_text is not None
            on_text("The first words of ")
            raise Temporary("the line went dead")
        return super().answer(question, on_text)


def test_every_turn_is_streamed_with_its_conclusion(api: Client, case: Case) -> None:
    """V-13: the stream shows the path of the report, and what the experts wrote."""
    watcher = RedisWatcher(case.tenant_id, case.batch_id)
    diagnosis = investigate(case, thread_id=str(case.batch_id), watcher=watcher)
    told = read(ask(api, case.batch_id))
    shown = transcript(told)
    assert shown.finished == {step.node: step.summary for step in diagnosis.path}
    assert shown.text["log_expert:text"]
    assert [event.name for event in told].count("began") == 1
    assert [event.name for event in told].count("entered") == len(diagnosis.path)


def test_a_resumed_run_is_streamed_as_a_new_run(
    api: Client, database: Database, case: Case
) -> None:
    """G-04: a finished node is not streamed again; the failed node is, without its first words."""
    desk = Desk(DyingExpert(), database, valkey(), places=2)
    thread = str(case.batch_id)
    with pytest.raises(Temporary):
        investigate(case, thread_id=thread, desk=desk, watcher=_watcher(case))
    diagnosis = investigate(case, thread_id=thread, desk=desk, watcher=_watcher(case))
    told = read(ask(api, case.batch_id))
    entered = [event.data["node"] for event in told if event.name == "entered"]
    assert sorted(entered) == sorted([*nodes(diagnosis), "diagnosis_expert"])
    assert [event.name for event in told].count("began") == 2
    shown = transcript(told)
    assert shown.finished == {step.node: step.summary for step in diagnosis.path}
    assert "The first words" not in shown.text["diagnosis_expert"]


def test_text_is_streamed_while_the_model_writes(
    api: Client, fleet: Fleet, endpoint: ModelEndpoint, desk: Desk
) -> None:
    """V-13: an answer is streamed while the provider streams it; clients see no JSON."""
    prose = "It is the compensator. " * 6
    endpoint.script = lambda prompt: replace(
        answer(prompt), text=prose + answer(prompt).text, pause=0.1
    )
    batch_id = fleet.diagnosing("v1.log", "v2.can")
    case = strange_case(fleet.tenant).model_copy(update={"batch_id": batch_id})
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(investigate, case, thread_id="t", desk=desk, watcher=_watcher(case))
        wait_until(lambda: _speaks(read(ask(api, batch_id))), "a node that speaks", seconds=30)
        diagnosis = work.result(timeout=60)
    shown = transcript(read(ask(api, batch_id)))
    assert shown.finished == {step.node: step.summary for step in diagnosis.path}
    assert shown.text["second_look"].startswith(prose)
    assert "{" not in "".join(shown.text.values())


def _speaks(told: list[Told]) -> bool:
    """Say whether a node has said something and has not finished."""
    finished = {event.data["node"] for event in told if event.name == "finished"}
    return bool({event.data["node"] for event in told if event.name == "said"} - finished)


def _watcher(case: Case) -> RedisWatcher:
    return RedisWatcher(case.tenant_id, case.batch_id)
