"""Opens the weights "flat:1024": renders that cost nothing, of a picture of that side. For benchmarks."""

from __future__ import annotations

import os

from zit_ext import ModelRef, Pixels, Request, hookimpl
from zit_ext.pipeline import Lease, Rendered, Watcher, WeightTier

touches = ("image/png",)


@hookimpl
def zit_open_pipeline(model: ModelRef) -> Flat | None:
    kind, _, side = model.source.partition(":")
    return Flat(int(side)) if kind == "flat" else None


class Flat:
    """One picture of noise, made once, for every request."""

    parts = ()

    def __init__(self, side: int) -> None:
        self._pixels = Pixels(side, side, 3, os.urandom(side * side * 3))

    def move(self, part: str, tier: WeightTier) -> None:
        raise AssertionError("there are no parts")

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        for step in range(request.steps):
            watcher.step(step + 1, request.steps)
        return Rendered(self._pixels, 0.0, {"pipeline": "flat 1"})

    def close(self) -> None:
        """There is nothing to let go of."""
