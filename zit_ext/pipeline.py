"""What the holder and a renderer need from loaded weights. Knows no torch: only the shape of things."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from .codecs import PNG, Pixels
from .errors import ModelError
from .records import Content, Encoded, FieldValue, ModelRef, Request


class WeightTier(IntEnum):
    """How near to the device a part's weights are."""

    DISK = 0
    RAM = 1
    VRAM = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One separately movable piece of a model.

    `bytes` is measured. Parts with the same `identity` are the same weights: the holder keeps one of
    them, and counts it once.
    """

    name: str
    bytes: int
    identity: str


class Watcher(Protocol):
    """How a host speaks to a running render. Called on the thread that renders."""

    def step(self, done: int, total: int) -> None:
        """Told after each step of the render."""

    def preview(self, png: bytes) -> None:
        """Told now and then how the picture looks so far."""

    def wants_stop(self) -> bool:
        """Asked between steps; True ends the render with GenerationStoppedError."""
        ...


Lease = Callable[..., AbstractContextManager[None]]
"""`with lease("text_encoder"): ...` - the named parts are on the device, and stay, while it lasts."""


def _always() -> bool:
    return True


load_device: ContextVar[str | None] = ContextVar("zit_ext_load_device", default=None)
"""The device that the load on this thread is for; None where nobody said: that of the settings."""

load_is_wanted: ContextVar[Callable[[], bool]] = ContextVar("zit_ext_load_is_wanted", default=_always)
"""Says whether anybody still waits for the load that runs on this thread. Whoever reads large files asks
now and then, and raises GenerationStoppedError where it says no. Any thread may call what it holds."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One answer from a pipeline."""

    content: Content
    seconds: float
    """Of rendering, without queue and load: the cost of the entry."""
    environment: Mapping[str, FieldValue]
    """What the pipeline was made of while it rendered, every "auto" resolved."""
    faithful: bool = True
    """False after a fallback that changes bits (tiles after out of memory): never kept."""
    warnings: tuple[str, ...] = ()

    @property
    def media_type(self) -> str:
        return PNG if isinstance(self.content, Pixels) else self.content.media_type


def checked(answer: object) -> Rendered:
    """Return what a pipeline answered. Raises ModelError for what no renderer and no store could take."""
    if not isinstance(answer, Rendered):
        raise _wrong(f"{type(answer).__name__}, and no Rendered")
    content, seconds = answer.content, answer.seconds
    encoded = isinstance(content, Encoded) and isinstance(content.media_type, str)
    if not isinstance(content, Pixels) and not (encoded and isinstance(content.data, bytes)):
        raise _wrong(f"content of type {type(content).__name__}; give Pixels, or Encoded(media_type, bytes)")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise _wrong(f"seconds = {seconds!r}; give how long it took")
    if not isinstance(answer.environment, Mapping):
        raise _wrong(f"an environment of type {type(answer.environment).__name__}; give a mapping")
    return answer


def _wrong(what: str) -> ModelError:
    return ModelError(f"the pipeline's render() gave {what}")


class Pipeline(Protocol):
    """Loaded weights. Every method is called on the device's own thread, one at a time."""

    @property
    def parts(self) -> Sequence[Part]:
        """The movable parts, all in RAM when the pipeline is opened."""
        ...

    def move(self, part: str, tier: WeightTier) -> None:
        """Move one part between RAM and VRAM; to where it is already, nothing happens."""

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        """Return the answer to one request. Each stage leases its parts, and only while it lasts.

        Raises GenerationStoppedError when the watcher wants it.
        """
        ...

    def close(self) -> None:
        """Let go of all weights; the memory is free afterwards."""


@runtime_checkable
class SharesParts(Protocol):
    """A pipeline that can use another one's weights: one text encoder for several models, held once.

    Optional: without it, each pipeline has its own.
    """

    def adopt(self, part: str, other: Pipeline) -> bool:
        """Use the other pipeline's weights of this part, of equal identity, and let go of your own.

        From then on each of the two moves the part for both, and `close` lets go of one's own hold on
        it only. Return False, and change nothing, where that cannot be: weights that a render patches
        (LoRAs) or hooks (offloading) are not shared.
        """
        ...


class Renderer(Protocol):
    """Whoever renders a miss."""

    async def render(self, request: Request, watcher: Watcher) -> Rendered: ...

    async def close(self) -> None: ...


@runtime_checkable
class HoldsWeights(Protocol):
    """A renderer that can be told which weights to hold."""

    async def preload(self, model: ModelRef) -> None: ...

    async def unload(self, model: ModelRef) -> bool: ...

    async def unload_all(self) -> int: ...

    async def park_all(self) -> None: ...
