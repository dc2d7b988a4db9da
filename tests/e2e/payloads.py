"""The events of events/*.json with real ids instead of those of the examples."""

import json
from typing import Any
from uuid import UUID

from tests.e2e.deployment import ROOT

EVENTS = ROOT / "events"
_TENANT = "11111111-1111-4111-8111-111111111111"
_BATCH = "22222222-2222-4222-8222-222222222222"
_FILE = "33333333-3333-4333-8333-333333333333"
_EVENT = "44444444-4444-4444-8444-444444444444"


def payload(name: str, tenant_id: UUID, batch_id: UUID, **others: str) -> Any:
    """Return events/<name>.json for a batch; `others` replace more of its texts by their name.

    Known names: file_id, event_id, key (the API key), object (the key in S3), trace_id, token.
    """
    examples = {
        "file_id": _FILE,
        "event_id": _EVENT,
        "key": "skald_your-key",
        "object": f"batches/{tenant_id}/{batch_id}/vehicle+01.log",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "token": "AQCEAAAAKgAAAAMAAAAAAAAAAc-example-token",
    }
    text = (EVENTS / f"{name}.json").read_text()
    text = text.replace(_TENANT, str(tenant_id)).replace(_BATCH, str(batch_id))
    for what, value in others.items():
        text = text.replace(examples[what], value)
    return json.loads(text)
