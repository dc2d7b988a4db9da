"""V-08, G-03, G-04: the agents diagnose a case, and their work survives a crash."""

from uuid import UUID

from tests.integration.agents.cases import case_of
from tests.unit.analysis.samples import failed, parsed

from batches.agents import investigate
from batches.analysis.diagnosis import Diagnosis, diagnose
from skald.knowledge.entries import Loaded
from skald.postgres import Database


def nodes(diagnosis: Diagnosis) -> list[str]:
    return [step.node for step in diagnosis.path]


def test_a_sure_diagnosis_takes_the_fast_path(database: Database, tenant: UUID) -> None:
    """V-08: one expert a format runs beside retrieval; a sure finding needs no review."""
    files = [
        parsed("v1.log", {"E2107": 40}, critical={"E2107": "BROWNOUT supply voltage 7.3 V"}),
        parsed("v1.can", {"BatteryVoltage_RANGE": 12}, format_name="candump"),
        failed("v2.log"),
    ]
    case = case_of(tenant, *files)
    diagnosis = investigate(case, thread_id="t")
    assert diagnosis.findings == diagnose(files, case.statistics).findings
    assert diagnosis.method == "agents, offline expert"
    assert sorted(nodes(diagnosis)[1:4]) == [
        "log_expert:candump",
        "log_expert:text",
        "retrieval_expert",
    ]
    assert nodes(diagnosis)[4:] == ["diagnosis_expert", "conclusion"]


def test_an_unsure_diagnosis_takes_the_slow_path(database: Database, tenant: UUID) -> None:
    """V-08: with a confidence below 0.7 there is retrieval and a review."""
    quotes = {"E1": "the flux compensator is wobbling"}
    case = case_of(tenant, parsed("v1.log", {"E1": 40}, critical=quotes))
    diagnosis = investigate(case, thread_id="t")
    assert nodes(diagnosis)[-3:] == ["deep_retrieval", "second_look", "conclusion"]


def test_a_batch_without_trouble_asks_no_model(database: Database, tenant: UUID) -> None:
    """V-08: without trouble in the batch no expert asks a model."""
    diagnosis = investigate(case_of(tenant, parsed("v1.log")), thread_id="t")
    assert nodes(diagnosis) == ["supervisor", "conclusion"]
    assert diagnosis.findings == []


def test_the_library_may_know_what_no_rule_knows(
    database: Database, tenant: UUID, library: Loaded
) -> None:
    """V-09: the review finds the cause by the nearest entries, and names them."""
    words = "sensor returned the last frame with a wrong checksum"
    case = case_of(tenant, parsed("v1.log", {"Z1": 30}, critical={"Z1": words}))
    assert {one.rule for one in diagnose(case.files, case.statistics).findings} == {"error_burst"}
    diagnosis = investigate(case, thread_id="t")
    assert [one.rule for one in diagnosis.findings] == ["sensor_range"]
    assert any(one.title.startswith("Camera, radar or lidar blind") for one in diagnosis.sources)
    assert nodes(diagnosis)[-3:] == ["deep_retrieval", "second_look", "conclusion"]
