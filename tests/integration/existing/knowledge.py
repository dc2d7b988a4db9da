"""An entry of the knowledge base."""

from tests.integration.existing.world import Ids, World
from tests.integration.knowledge_base import ENTRY, KnowledgeClient


def existing(world: World) -> list[Ids]:
    """Return kind and key of an entry."""
    path = "/knowledge/error_code/E2107"
    assert KnowledgeClient(world.api_key)("PUT", path, ENTRY).status == 200
    return [{"kind": "error_code", "key": "E2107"}]
