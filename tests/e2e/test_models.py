"""V-08, V-13: one setting makes the deployed diagnosis use another endpoint."""

from tests.e2e import flows
from tests.e2e.conftest import Tenant
from tests.e2e.deployment import Deployment
from tests.integration.model_endpoint import ModelEndpoint


def test_the_diagnosis_asks_the_configured_model(
    skald: Deployment, tenant: Tenant, endpoint: ModelEndpoint
) -> None:
    """V-08: without a key there is no secret; tokens and words belong to the batch."""
    batch_id = flows.open_batch(tenant, {"a.log": flows.lines(60, errors=9)})
    tenant.client.complete(batch_id)
    report = flows.assert_ended_once(skald, tenant, batch_id, events={"a.log": 60})
    asked = [step for step in report["diagnosis"]["path"] if step["model"]]
    assert {step["model"] for step in asked} == {"openai:fake"}
    assert len(endpoint.asked) == len(asked) >= 2
    assert all(step["input_tokens"] > 0 for step in asked)
    told = [event.data.get("text") for event in tenant.client.diagnosis(batch_id)]
    assert any(text and text.startswith("The pump is stuck.") for text in told)
    assert "openai:fake" in report["judged_by"]
