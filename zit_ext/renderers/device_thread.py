"""The thread `zit-gpu`: it owns one device's weights. Knows when something may run there, not what."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, ParamSpec, TypeVar

from ..request_ids import bearing_id
from ..workers import Worker

P = ParamSpec("P")
T = TypeVar("T")


class DeviceThread:
    """Runs jobs one after another, and short ones between two stages of a render too."""

    def __init__(self) -> None:
        self._worker = Worker("zit-gpu")
        self._short: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run after everything that was asked before, so after the render that runs now."""
        return await self._worker.run(function, *args, **kwargs)

    async def run_soon(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run when the thread is free, or between two stages of what renders now: the sooner.

        For what is short, and leaves leased weights alone.
        """
        return await asyncio.wrap_future(self.submit_soon(function, *args, **kwargs))

    def submit_soon(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `run_soon`, from any thread. Raises RuntimeError after `close`."""
        future: Future[T] = Future()
        self._short.append((future, bearing_id(partial(function, *args, **kwargs))))
        self._worker.submit(self.run_short)
        return future

    def run_blocking(
        self, function: Callable[P, T], patience: float, *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Run soon and wait so many seconds at most; None if it is not done by then, or never will be.

        Asked from the device's own thread, it runs at once: so a host that we asked for room may ask
        for some back before it answers, and nobody waits for himself.
        """
        if self._worker.is_current():
            return function(*args, **kwargs)
        try:
            return self.submit_soon(function, *args, **kwargs).result(patience)
        except (FutureTimeoutError, CancelledError, RuntimeError):
            return None

    def run_short(self) -> None:
        """Run the short jobs that wait. On the device's thread."""
        while True:
            try:
                future, call = self._short.popleft()
            except IndexError:
                return
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    # Whoever asked hears of it; the render between whose stages it ran does not.
                    future.set_exception(error)
            del future, call

    def close(self, patience: float) -> bool:
        """End the thread after its jobs; say whether it ended within so many seconds."""
        return self._worker.close(patience)

    def abandon(self) -> None:
        """Wait for nothing: the thread ends when what it does ends."""
        self._worker.abandon()
        while self._short:
            self._short.popleft()[0].cancel()
