"""V-03, V-13: the agents stop when their batch is cancelled."""

import json
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest
from psycopg import Connection
from psycopg.rows import DictRow
from tests.conftest import Context
from tests.integration.agents.cases import answer, strange_case
from tests.integration.batches import Fleet
from tests.integration.model_endpoint import ModelEndpoint, Reply
from tests.integration.support import Client, sqs_event

from batches import repository
from batches.agents.offline import OfflineExpert
from batches.diagnosing import diagnose
from batches.domain import BatchStatus
from batches.publishing import Gathered
from skald.config import settings
from skald.models.choice import chosen_model
from skald.models.openai_compatible import OpenAiCompatible
from skald.saga import SagaLog


@pytest.fixture
def model(endpoint: ModelEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelEndpoint]:
    """The endpoint as the model that the settings name."""
    monkeypatch.setenv("MODEL", endpoint.setting)
    settings.cache_clear()
    chosen = chosen_model(OfflineExpert())
    assert isinstance(chosen, OpenAiCompatible)
    with closing(chosen):
        yield endpoint
    settings.cache_clear()


def gathered(fleet: Fleet) -> UUID:
    """A batch with the files of the strange case: two log experts, then the diagnosis expert."""
    case = strange_case(fleet.tenant)
    batch_id = fleet.scattering(*(file.name for file in case.files))
    for file in case.files:
        assert file.features is not None
        assert fleet.finish(batch_id, file.name, result=file.features)
    figures = Gathered(statistics=case.statistics, charts={}).model_dump(mode="json")
    fleet.do(repository.enter, batch_id, BatchStatus.GATHERING)
    fleet.do(repository.save_statistics, batch_id, figures)
    fleet.do(repository.enter, batch_id, BatchStatus.GATHERED)
    return batch_id


def test_a_diagnosis_ends_with_its_batch(
    model: ModelEndpoint, fleet: Fleet, api: Client, admin: Connection[DictRow]
) -> None:
    """V-03, V-13: the batch is cancelled while the log experts ask.

    The heartbeat after their node sees it. The model gets no more calls, nothing is stored, the
    message is done, the thread is free.
    """
    batch_id = gathered(fleet)
    stops = iter([f"/batches/{batch_id}/cancel"])

    def cancelled_meanwhile(prompt: str) -> Reply:
        for stop in stops:
            assert api("POST", stop).status == 200
        return answer(prompt)

    model.script = cancelled_meanwhile
    ids = {"saga_id": batch_id, "batch_id": batch_id, "tenant_id": fleet.tenant}
    message = sqs_event(json.dumps({name: str(value) for name, value in ids.items()}))
    for _ in range(2):
        assert diagnose(message, Context()) == {"batchItemFailures": []}
    assert 1 <= len(model.asked) <= 2
    assert all(asked.prompt.startswith("Logs of") for asked in model.asked)
    assert fleet.batch(batch_id).failure_code == "cancelled"
    assert fleet.do(repository.find_diagnosis, batch_id) is None
    with fleet.database.transaction(fleet.tenant) as tx:
        assert SagaLog(tx, str(batch_id)).recorded("diagnose") is None
    leases = "select count(*) from skald.checkpoint_threads where tenant_id = %s"
    (lease,) = admin.execute(f"{leases} and leased_until > now()", [fleet.tenant]).fetchall()
    assert lease["count"] == 0
