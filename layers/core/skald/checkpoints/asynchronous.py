"""The asynchronous methods of a checkpointer; each runs the synchronous method in a thread."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, override

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple


class AsyncMethods(BaseCheckpointSaver[int]):
    """Asynchronous methods for a checkpointer that has the synchronous ones."""

    @override
    async def aput(self, *arguments: Any, **named: Any) -> RunnableConfig:
        return await asyncio.to_thread(self.put, *arguments, **named)

    @override
    async def aput_writes(self, *arguments: Any, **named: Any) -> None:
        await asyncio.to_thread(self.put_writes, *arguments, **named)

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.get_tuple, config)

    @override
    async def alist(
        self, config: RunnableConfig | None, **named: Any
    ) -> AsyncIterator[CheckpointTuple]:
        for found in await asyncio.to_thread(lambda: [*self.list(config, **named)]):
            yield found

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    @override
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    @override
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    @override
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)
