"""V-09: earlier diagnoses are knowledge, for their tenant only and while they hold."""

from uuid import UUID, uuid4

from tests.integration.agents.cases import case_of
from tests.unit.analysis.samples import parsed

from batches import precedents
from batches.agents import investigate
from batches.analysis.findings import Diagnosis
from skald.knowledge.entries import Source, Wanted
from skald.knowledge.ranking import search
from skald.postgres import Database

SAG = parsed("v1.log", {"E2107": 40}, critical={"E2107": "BROWNOUT supply voltage 7.3 V"})


def diagnosis_of(tenant: UUID) -> Diagnosis:
    return investigate(case_of(tenant, SAG), thread_id=str(uuid4()))


def found(database: Database, tenant: UUID) -> list[Source]:
    with database.transaction(tenant) as tx:
        return search(
            tx.call, Wanted(text="brownout", error_codes=("E2107",), kinds=("diagnosis",))
        )


def test_a_sure_finding_helps_to_judge_the_next_batch(database: Database, tenant: UUID) -> None:
    """V-09: a finding is stored once for any number of runs; the next batch cites it."""
    first, batch = diagnosis_of(tenant), uuid4()
    for _ in range(2):
        with database.transaction(tenant) as tx:
            precedents.remember(tx, batch, first)
    (source,) = found(database, tenant)
    assert source.key == f"{batch}/power"
    assert source.version == 1
    assert [one.source for one in diagnosis_of(tenant).sources] == [f"batch {batch}"]


def test_an_unsure_finding_is_not_stored(database: Database, tenant: UUID) -> None:
    """V-09: otherwise a guess would confirm itself in the next batch."""
    doubtful = diagnosis_of(tenant)
    doubtful.findings[0].confidence = 0.69
    with database.transaction(tenant) as tx:
        precedents.remember(tx, uuid4(), doubtful)
    assert found(database, tenant) == []


def test_a_compensated_diagnosis_is_forgotten(database: Database, tenant: UUID) -> None:
    """V-09, C-07: also a diagnosis that was never stored."""
    diagnosis, batch = diagnosis_of(tenant), uuid4()
    with database.transaction(tenant) as tx:
        precedents.forget(tx, batch, diagnosis)
        precedents.remember(tx, batch, diagnosis)
    assert found(database, tenant)
    with database.transaction(tenant) as tx:
        precedents.forget(tx, batch, diagnosis)
    assert found(database, tenant) == []


def test_another_tenant_finds_no_diagnosis(
    database: Database, tenant: UUID, other_tenant: UUID
) -> None:
    """Q-10: a diagnosis of one tenant is not found by another."""
    diagnosis = diagnosis_of(tenant)
    with database.transaction(tenant) as tx:
        precedents.remember(tx, uuid4(), diagnosis)
    assert found(database, other_tenant) == []
    assert diagnosis_of(other_tenant).sources == []
