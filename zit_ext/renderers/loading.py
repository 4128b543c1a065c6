"""Reads weights on a thread of their own, one model at a time, and gives up on one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ..errors import ModelError, ZitError
from ..pipeline import Pipeline
from ..records import ModelRef
from ..workers import Worker
from .failures import outcome

T = TypeVar("T")

_WEIGHTS = {".safetensors", ".gguf"}


class Loader:
    """Opens pipelines on the thread `zit-load`.

    A load that hangs cannot be ended, only left: its thread is replaced, and if it comes to an end
    after all, `discard` gets what it opened.
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
        self._worker = Worker("zit-load")

    async def size(self, model: ModelRef) -> int:
        """Return how many bytes the model will have in RAM, judged by its files; 0 if that is unknown."""
        size = await self._within(self._worker.submit(bytes_of_files, model), model, lambda _: None)
        return size if isinstance(size, int) else 0

    async def open(self, model: ModelRef) -> Pipeline | ZitError:
        """Return the opened pipeline, or why there is none."""
        doing = f"reading {model.source!r}"
        future = self._worker.submit(outcome, doing, "cpu", self._open_pipeline, model)
        return await self._within(future, model, self._discard_late)

    def close(self) -> None:
        """Wait for nothing: what is being read is let go when it is there."""
        self._worker.abandon()

    def _discard_late(self, late: Pipeline | ZitError) -> None:
        if not isinstance(late, ZitError):
            self._discard(late)

    async def _within(
        self, future: Future[T], model: ModelRef, discard: Callable[[T], None]
    ) -> T | ModelError:
        reading = asyncio.wrap_future(future)
        done: set[asyncio.Future[T]] = set()
        try:
            done, _ = await asyncio.wait([reading], timeout=self._timeout or None)
        finally:
            if not done:
                # Nobody waits any more: what comes late must not stay in memory.
                reading.cancel()
                future.add_done_callback(lambda late: _pass_on(late, discard))
        if done:
            return reading.result()
        self._worker.abandon()
        self._worker = Worker("zit-load")
        return ModelError(
            f"reading {model.source!r} took longer than {self._timeout:g} seconds and was given up; "
            "the next request tries again. If the disk or network is that slow, set load_timeout higher"
        )


def bytes_of_files(model: ModelRef) -> int:
    """Return the size of the model's weight files, its replaced parts not counted; 0 if there are none."""
    replaced = {
        name for name, part in (("text_encoder", model.text_encoder), ("vae", model.vae)) if part is not None
    }
    total = 0
    for ref in (model, model.text_encoder, model.vae):
        if ref is None or ref.path is None:
            continue
        # What cannot be listed cannot be read either: opening it tells why.
        with contextlib.suppress(OSError):
            for file in ref.path.rglob("*") if ref.path.is_dir() else [ref.path]:
                if file.suffix in _WEIGHTS and (ref is not model or file.parent.name not in replaced):
                    total += file.stat().st_size
    return total


def _pass_on(late: Future[T], discard: Callable[[T], None]) -> None:
    if not late.cancelled() and late.exception() is None:
        discard(late.result())
