"""G-02: LangGraph's conformance suite for checkpointers, with all optional parts."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from skald.checkpoints import Checkpointer
from skald.postgres import Database


def test_conformance(database: Database) -> None:
    @checkpointer_test(name="Checkpointer")
    async def ours() -> AsyncGenerator[BaseCheckpointSaver[int]]:
        yield Checkpointer(database, uuid4())

    report = asyncio.run(validate(ours))
    told = {name: result.failures for name, result in report.results.items() if result.failures}
    assert told == {}
    assert all(result.passed for result in report.results.values())
    assert len(report.results) == 8
