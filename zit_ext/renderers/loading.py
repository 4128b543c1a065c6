"""Reads weights on a thread of their own, one model at a time, and gives up on one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import GenerationStoppedError, ModelError, ZitError
from ..pipeline import Pipeline, load_is_wanted
from ..records import ModelRef
from ..workers import in_thread
from .failures import outcome
from .prefetch import weight_files

T = TypeVar("T")


class GivenUpError(GenerationStoppedError):
    """The load was left because nobody waits for it any more."""


class Loader:
    """Opens pipelines, each on a thread `zit-load` that ends with it.

    For a thread that has used torch keeps OpenMP workers as long as it lives, and with more workers than
    cores, libgomp lets them sleep between operations: renders become slower (docs/performance.md).

    A load that is left hears of it (`pipeline.load_is_wanted`), and ends where it listens. One that hangs
    cannot be ended; if it comes to an end after all, `discard` gets what it opened.
    """

    def __init__(
        self,
        open_pipeline: Callable[[ModelRef], Pipeline],
        *,
        timeout: float,
        discard: Callable[[Pipeline], None],
    ) -> None:
        self._open_pipeline = open_pipeline
        self._timeout = timeout
        self._discard = discard
        self._leaving: asyncio.Future[None] | None = None

    async def size(self, model: ModelRef) -> int:
        """Return how many bytes the model will have in RAM, judged by its files; 0 if that is unknown."""
        size = await self._within(in_thread("zit-load", bytes_of_files, model), model, lambda _: None)
        return size if isinstance(size, int) else 0

    async def open(self, model: ModelRef) -> Pipeline | ZitError:
        """Return the opened pipeline, or why there is none."""
        left = threading.Event()
        future = in_thread("zit-load", self._open, model, left)
        try:
            return await self._within(future, model, self._discard_late)
        finally:
            left.set()

    def give_up(self) -> None:
        """Leave what is being opened now: whoever awaits it gets GivenUpError."""
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(None)

    def _open(self, model: ModelRef, left: threading.Event) -> Pipeline | ZitError:
        load_is_wanted.set(lambda: not left.is_set())
        return outcome(f"reading {model.source!r}", "cpu", self._open_pipeline, model)

    def _discard_late(self, late: Pipeline | ZitError) -> None:
        if not isinstance(late, ZitError):
            self._discard(late)

    async def _within(
        self, future: Future[T], model: ModelRef, discard: Callable[[T], None]
    ) -> T | ModelError:
        reading = asyncio.wrap_future(future)
        self._leaving = leaving = asyncio.get_running_loop().create_future()
        either: list[asyncio.Future[Any]] = [reading, leaving]
        try:
            await asyncio.wait(either, timeout=self._timeout or None, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leaving = None
            if not reading.done():
                # Nobody waits any more: what comes late must not stay in memory.
                reading.cancel()
                future.add_done_callback(lambda late: _pass_on(late, discard))
        if not reading.cancelled():
            return reading.result()
        if leaving.done():
            raise GivenUpError(f"reading {model.source!r} was given up: nobody waits for it any more")
        return ModelError(
            f"reading {model.source!r} took longer than {self._timeout:g} seconds and was given up; "
            "the next request tries again. If the disk or network is that slow, set load_timeout higher"
        )


def bytes_of_files(model: ModelRef) -> int:
    """Return the size of the model's weight files, its replaced parts not counted; 0 if there are none."""
    total = 0
    # What cannot be listed cannot be read either: opening it tells why.
    with contextlib.suppress(OSError):
        for file in weight_files(model):
            total += file.stat().st_size
    return total


def _pass_on(late: Future[T], discard: Callable[[T], None]) -> None:
    if not late.cancelled() and late.exception() is None:
        discard(late.result())
