"""A fake GPU, weights of any size without the bytes, and where they are read from."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from zit_ext.pipeline import Lease, Rendered, Watcher, WeightTier, load_is_wanted
from zit_ext.records import ModelRef, Request
from zit_ext.renderers.local import LocalRenderer
from zit_ext.testing import FakePipeline, QuietWatcher, make_request

ZIMAGE = {"text_encoder": 8_040_000_000, "transformer": 12_310_000_000, "vae": 170_000_000}
"""The real sizes: 20.5 GB, of which no stage needs more than 12.31."""

Prepare = Callable[["DevicePipeline"], None]


class Device:
    """A GPU's memory as its weights see it: knows what lies on it, and runs out when it is full."""

    def __init__(self, total: int = 10**15) -> None:
        self.total = total
        self.used = 0
        self.most = 0
        self.foreign = 0
        """Bytes of somebody else."""

    def free(self) -> int:
        return self.total - self.used - self.foreign

    def put(self, number: int) -> None:
        if number > self.free():
            raise MemoryError
        self.used += number
        self.most = max(self.most, self.used)


class DevicePipeline(FakePipeline):
    """A fake whose parts take room on a device, and leave it again."""

    def __init__(self, device: Device, **given: Any) -> None:
        super().__init__(**given)
        self.device = device
        self.sizes = {part.name: part.bytes for part in self.parts}
        self.failures: list[BaseException] = []
        self.stages: list[str] | None = None
        """What each stage leases, if not each part in its turn."""

    def move(self, part: str, tier: WeightTier) -> None:
        if self.tiers[part] is not tier:
            self.device.put(self.sizes[part]) if tier is WeightTier.VRAM else self._leave(part)
        super().move(part, tier)

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        if self.failures:
            raise self.failures.pop(0)
        return super().render(request, lease, watcher)

    def close(self) -> None:
        for part, tier in self.tiers.items():
            if tier is WeightTier.VRAM:
                self._leave(part)
        super().close()

    def _leave(self, part: str) -> None:
        self.device.used -= self.sizes[part]


class Shelf:
    """Where models are read from: makes a pipeline for each load, and remembers what it made."""

    def __init__(self) -> None:
        self.device = Device()
        self.sizes: dict[str, int] = {"text_encoder": 40, "transformer": 60, "vae": 1}
        self.opened: list[str] = []
        self.refs: list[weakref.ref[DevicePipeline]] = []
        self.newest: dict[str, weakref.ref[DevicePipeline]] = {}
        self.failures: dict[str, list[BaseException]] = {}
        self.gates: dict[str, threading.Event] = {}
        self.prepare: Prepare = lambda pipeline: None
        self.kind: type[DevicePipeline] = DevicePipeline
        self.identities: dict[str, str] = {}
        self.given_up: list[str] = []
        """Loads that had heard by their end that nobody waits for them."""

    def open(self, model: ModelRef) -> DevicePipeline:
        self.opened.append(model.source)
        if gate := self.gates.get(model.source):
            gate.wait(30)
        if not load_is_wanted.get()():
            self.given_up.append(model.source)
        if failures := self.failures.get(model.source):
            raise failures.pop(0)
        pipeline = self.kind(self.device, sizes=self.sizes, model=model.source, identities=self.identities)
        self.prepare(pipeline)
        self.refs.append(weakref.ref(pipeline))
        self.newest[model.source] = weakref.ref(pipeline)
        return pipeline

    def pipeline(self, source: str) -> DevicePipeline:
        """The one that was opened last for this source."""
        pipeline = self.newest[source]()
        assert pipeline is not None
        return pipeline

    def alive(self) -> int:
        return sum(ref() is not None for ref in self.refs)

    def unclosed(self) -> int:
        return sum((pipeline := ref()) is not None and not pipeline.closed for ref in self.refs)


def ask(source: str = "a", **changes: Any) -> Request:
    return make_request(model=ModelRef(source=source), **changes)


async def until(condition: Callable[[], Any], patience: float = 20.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.002)


async def until_it_renders(renderer: LocalRenderer) -> None:
    """Wait until some model is in a render."""
    await until(lambda: any(model.rendering for model in renderer.holdings().models))


def quiet() -> QuietWatcher:
    return QuietWatcher()
