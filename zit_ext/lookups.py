"""Threads that look things up: files, digests, what is stored. No hit waits for a hash or a render."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from .errors import EngineClosedError
from .request_ids import bearing_id

P = ParamSpec("P")
T = TypeVar("T")


class Lookups:
    """A few threads of the engine's own. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="zit-lookup")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns on one of the threads. Raises EngineClosedError after `close`."""
        bearing: Callable[[], T] = bearing_id(lambda: function(*args, **kwargs))
        try:
            asked = asyncio.get_running_loop().run_in_executor(self._pool, bearing)
        except RuntimeError as error:  # the threads have ended
            raise EngineClosedError("the engine was closed") from error
        return await asked

    def close(self) -> None:
        """End the threads, after what they do. Twice is fine."""
        self._pool.shutdown(wait=True)
