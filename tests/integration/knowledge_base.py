"""Entries as a client of the knowledge API sends them."""

from typing import Any

from tests.integration.support import Client, Handler

ENTRY: dict[str, Any] = {
    "title": "Brown-out",
    "text": "The supply voltage fell below nine volts while the image was flashed.",
    "error_codes": ["E2107"],
    "platform": "J7",
    "firmware": "v2.%",
}


class KnowledgeClient(Client):
    """A client of the knowledge API with one key."""

    def _handler(self) -> Handler:
        from knowledge.api import handler

        return handler
