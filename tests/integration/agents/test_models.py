"""V-08, V-13: a model judges beside the experts; where it fails, the rules decide."""

import json
from uuid import UUID

import pytest
from tests.integration.agents.cases import VERDICT, answer, case_of, strange_case
from tests.integration.agents.listener import Listener
from tests.integration.model_endpoint import ModelEndpoint, Reply, always, in_turn
from tests.unit.analysis.samples import parsed

from batches.agents import investigate
from batches.analysis.diagnosis import diagnose
from skald.models import Desk, ModelUnreachable
from skald.models.records import usage
from skald.postgres import Database


def test_a_model_names_what_no_rule_knows(
    endpoint: ModelEndpoint, desk: Desk, database: Database, tenant: UUID
) -> None:
    """V-08: with evidence from the features; the path names the model, its tokens and its time."""
    case = strange_case(tenant)
    diagnosis = investigate(case, thread_id="t", desk=desk)
    assert diagnosis.method == "agents, openai:fake"
    (found,) = (one for one in diagnosis.findings if one.rule == "compensator")
    assert (found.evidence[0].file, found.evidence[0].line) == ("v1.log", 10)
    spent = [step for step in diagnosis.path if step.model]
    assert [step.model for step in spent] == ["openai:fake"] * 4
    assert all(step.input_tokens and step.output_tokens and step.seconds for step in spent)
    with database.transaction(tenant) as tx:
        (bill,) = usage(tx, str(case.batch_id), 1)
    assert bill.calls == 4


def test_prompts_contain_features_and_earlier_findings(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-08: the diagnosis expert gets the log experts' findings, the review the open questions."""
    investigate(strange_case(tenant), thread_id="t", desk=desk)
    *logs, first, second = [asked.prompt for asked in endpoint.asked]
    assert all("flux compensator" in prompt or "X9" in prompt for prompt in logs)
    assert "log expert: Something wobbles." in first
    assert "open: v1.log, code E1: the flux compensator is wobbling" in second
    assert all(len(prompt.split()) <= 500 for prompt in endpoint.prompts)


def test_a_sure_batch_asks_no_second_time(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-08: the fast path is one call for each expert."""
    endpoint.script = always(Reply('{"summary": "A sag."}'))
    sag = parsed("v1.log", {"E2107": 40}, critical={"E2107": "BROWNOUT supply voltage 7.3 V"})
    case = case_of(tenant, sag, parsed("v1.can", {"BatteryVoltage_RANGE": 9}))
    diagnosis = investigate(case, thread_id="t", desk=desk)
    assert diagnosis.findings == diagnose(case.files, case.statistics).findings
    assert len(endpoint.asked) == 2


def test_an_answer_out_of_shape_is_repaired(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-08: an invalid answer is repaired once, with a message that names the error."""
    sag = parsed("v1.log", {"E1": 40}, critical={"E1": "the flux compensator is wobbling"})
    endpoint.script = in_turn(
        Reply('{"summary": "Something wobbles."}'), Reply("I am sure."), Reply(VERDICT)
    )
    diagnosis = investigate(case_of(tenant, sag), thread_id="t", desk=desk)
    assert any(one.rule == "compensator" for one in diagnosis.findings)
    assert "cannot be used" in endpoint.asked[2].prompt
    assert not any("no usable answer" in unknown for unknown in diagnosis.unknowns)


@pytest.mark.parametrize(
    ("reply", "calls"), [(Reply("no idea"), 8), (Reply(status=401), 4)], ids=["unusable", "refused"]
)
def test_without_a_usable_answer_the_rules_stand_in(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID, reply: Reply, calls: int
) -> None:
    """V-08: without a valid answer the diagnosis comes from the rules, and says so."""
    endpoint.script = always(reply)
    case = strange_case(tenant)
    diagnosis = investigate(case, thread_id="t", desk=desk)
    assert diagnosis.findings == diagnose(case.files, case.statistics).findings
    assert sum("no usable answer" in unknown for unknown in diagnosis.unknowns) == 4
    assert diagnosis.path[-2].model == "offline expert"
    assert len(endpoint.asked) == calls


def test_hallucinations_do_not_reach_the_report(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-08: a quote that is in no log is no evidence."""
    invented = json.dumps(
        {
            "summary": "A fire.",
            "claims": [
                {
                    "cause": "fire",
                    "title": "Fire on board",
                    "quotes": [{"file": "v1.log", "text": "smoke in the cabin"}],
                }
            ],
        }
    )
    endpoint.script = lambda prompt: (
        answer(prompt) if prompt.startswith("Logs of") else Reply(invented)
    )
    diagnosis = investigate(strange_case(tenant), thread_id="t", desk=desk)
    assert all(one.rule != "fire" for one in diagnosis.findings)
    assert "“Fire on board”: claimed without evidence" in diagnosis.unknowns


def test_temporary_troubles_are_the_steps_to_retry(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-13, G-04: they end the run; finished nodes stay, and the next run asks only the rest."""
    endpoint.script = lambda prompt: (
        answer(prompt) if prompt.startswith("Logs of") else Reply(status=500)
    )
    case = strange_case(tenant)
    with pytest.raises(ModelUnreachable):
        investigate(case, thread_id="t", desk=desk)
    asked = len(endpoint.asked)
    endpoint.script = answer
    investigate(case, thread_id="t", desk=desk)
    assert len(endpoint.asked) == asked + 2


def test_people_read_the_words_before_the_object(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-13: the words before an answer's object are streamed in pieces, each node in its order."""
    listener = Listener()
    diagnosis = investigate(strange_case(tenant), thread_id="t", desk=desk, watcher=listener)
    said = "".join(
        text for what, node, text in listener.heard if (what, node) == ("said", "second_look")
    )
    assert said == "It is the compensator. "
    assert len(listener.nodes("said")) > 4
    assert sorted(listener.nodes("entered")) == sorted(listener.nodes("finished"))
    assert {step.node: step.summary for step in diagnosis.path} == {
        node: summary for what, node, summary in listener.heard if what == "finished"
    }


def test_a_failing_watcher_does_not_fail_the_work(
    endpoint: ModelEndpoint, desk: Desk, tenant: UUID
) -> None:
    """V-13: an error in a watcher does not fail the work."""
    broken = Listener(heard=None)  # type: ignore[arg-type]  # every call of it fails
    case = strange_case(tenant)
    assert investigate(case, thread_id="t", desk=desk, watcher=broken).path
