"""The session for asyncio: sealing and waiting happen in threads, so that the event loop is never blocked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any

from sectum.hetee.client.connecting import connect
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.session import Session
from sectum.hetee.verification.policy import Policy


class AsyncSession:
    """A session with asynchronous methods. `connect_async` makes it."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def load(self, model: str | Path | bytes, **options: Any) -> LoadedModel:
        """See `Session.load`."""
        return await asyncio.to_thread(self.session.load, model, **options)

    async def infer(self, inputs: Inputs, **options: Any) -> Result:
        """See `Session.infer`. The result already has its receipt. Many calls may be awaited at a time."""
        future = await asyncio.to_thread(self.session.submit, inputs, **options)
        result = await asyncio.wrap_future(future)
        await asyncio.wrap_future(result.signed)
        return result

    async def resize(self, count: int, *, wait_s: float = 60.0) -> tuple[str, ...]:
        """See `Session.resize`."""
        return await asyncio.to_thread(self.session.resize, count, wait_s=wait_s)

    async def close(self, deadline_ms: int = 5000) -> None:
        """See `Session.close`."""
        await asyncio.to_thread(self.session.close, deadline_ms)


class connect_async:  # noqa: N801  # used like a function
    """`connect` for ``async with``, with the same arguments."""

    def __init__(self, url: str, policy: Policy | str | Path, **options: Any) -> None:
        self._url, self._policy, self._options = url, policy, options
        self._made: AsyncSession | None = None

    async def __aenter__(self) -> AsyncSession:
        self._made = AsyncSession(await asyncio.to_thread(connect, self._url, self._policy, **self._options))
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._made is not None
        await self._made.close(5000 if kind is None else 0)
