"""Stand-ins for tests, ours and yours: weights without bytes, a renderer without a GPU, a clock to move."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from .codecs import PNG, Pixels
from .errors import EngineClosedError, GenerationStoppedError
from .pipeline import Lease, Part, Rendered, Watcher, WeightTier
from .records import Blob, Content, Encoded, Entry, FieldValue, FileRef, ModelRef, Request
from .testing_keys import assert_field_changes_key, assert_same_key

__all__ = [
    "FAKE_ENVIRONMENT",
    "FakeClock",
    "FakeFiles",
    "FakePipeline",
    "FakeRenderer",
    "QuietWatcher",
    "assert_field_changes_key",
    "assert_same_key",
    "fake_content",
    "make_entry",
    "make_file",
    "make_request",
]

FAKE_ENVIRONMENT: Mapping[str, FieldValue] = {"device": "fake", "versions": {"fake": "1"}}


class FakeClock:
    """A clock that stands still until told otherwise. Unix seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class QuietWatcher:
    """A watcher that listens and never wants to stop."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.previews: list[bytes] = []
        self.stop = threading.Event()

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    def preview(self, png: bytes) -> None:
        self.previews.append(png)

    def wants_stop(self) -> bool:
        return self.stop.is_set()


class FakePipeline:
    """Weights of any size without the bytes. Renders what `fake_content` says, when `gate` is set.

    It remembers what was asked of it: `rendered`, `moves`, `closed`, and where each part is: `tiers`.
    """

    def __init__(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        model: str = "fake",
        environment: Mapping[str, FieldValue] = FAKE_ENVIRONMENT,
        identities: Mapping[str, str] | None = None,
    ) -> None:
        sizes = {"text_encoder": 40, "transformer": 60, "vae": 1} if sizes is None else sizes
        given = identities or {}
        self.parts = [Part(name, size, given.get(name, f"{model}:{name}")) for name, size in sizes.items()]
        self.tiers = {part.name: WeightTier.RAM for part in self.parts}
        self.rendered: list[Request] = []
        self.moves: list[tuple[str, WeightTier]] = []
        self.closed = False
        self.seconds = 1.0
        """What each render says it took: the cost of its entry."""
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.environment = environment
        self.salt = 0
        self.error: BaseException | None = None

    def move(self, part: str, tier: WeightTier) -> None:
        assert not self.closed, "a closed pipeline was moved"
        if self.tiers[part] is not tier:
            self.tiers[part] = tier
            self.moves.append((part, tier))

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        assert not self.closed, "a closed pipeline was asked to render"
        for part in self.parts:
            with lease(part.name):
                assert self.tiers[part.name] is WeightTier.VRAM, "a stage ran without its part"
                self.wait(watcher)
        for step in range(request.steps):
            watcher.step(step + 1, request.steps)
        if self.error is not None:
            raise self.error
        self.rendered.append(request)
        return Rendered(fake_content(request, self.salt), self.seconds, self.environment)

    def close(self) -> None:
        self.closed = True

    def wait(self, watcher: Watcher) -> None:
        """Wait for the gate. Raises GenerationStoppedError when the watcher wants it."""
        self.started.set()
        while not self.gate.wait(0.005):
            if watcher.wants_stop():
                raise GenerationStoppedError("the generation was stopped")
        if watcher.wants_stop():
            raise GenerationStoppedError("the generation was stopped")


class FakeRenderer:
    """A renderer for engine tests: one `FakePipeline` for every model, no queue, no budget."""

    def __init__(self, pipeline: FakePipeline | None = None) -> None:
        self.pipeline = pipeline or FakePipeline(sizes={})
        self.pipeline.closed = False  # another renderer may have closed it: opened again, it renders
        self.loads = 0

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        self.loads = 1
        return await asyncio.to_thread(self._render, request, watcher)

    def _render(self, request: Request, watcher: Watcher) -> Rendered:
        self.pipeline.wait(watcher)
        if self.pipeline.closed:
            raise EngineClosedError("the renderer was closed")
        return self.pipeline.render(request, lambda *parts: nullcontext(), watcher)

    async def close(self) -> None:
        self.pipeline.close()


class FakeFiles:
    """Stands in for the resolver: every source exists, and its digest follows from its name.

    `replace` pretends that the files of a source changed. `unhashed` holds sources whose digest
    takes until `hashed` is set.
    """

    def __init__(self) -> None:
        self.contents: dict[str, str] = {}
        self.unhashed: set[str] = set()
        self.hashed = threading.Event()

    def replace(self, source: str, content: str) -> None:
        self.contents[source] = content

    def resolve(self, request: Request) -> Request:
        return self._resolve(request, known_only=True)

    def complete(self, request: Request, wants_stop: Callable[[], bool]) -> Request | None:
        while not self.hashed.wait(0.005):
            if wants_stop():
                return None
        again = self._resolve(request, known_only=False)
        return again if again.model.identity == request.model.identity else None

    def _resolve(self, request: Request, *, known_only: bool) -> Request:
        model = request.model
        return replace(
            request,
            model=self._found(
                replace(model, **{name: self._found(part, known_only) for name, part in model.parts.items()}),
                known_only,
            ),
            loras=tuple(self._found(lora, known_only) for lora in request.loras),
        )

    def _found(self, ref: Any, known_only: bool) -> Any:
        content = self.contents.get(ref.source, ref.source)
        digest = None if known_only and ref.source in self.unhashed else _digest(content)
        return replace(ref, digest=digest, identity=_digest("identity " + content))


def fake_content(request: Request, salt: int = 0) -> Content:
    """Return a small picture (or text) that differs whenever the request differs."""
    seed = _digest(f"{request!r} {salt}")
    if request.media_type != PNG:
        return Encoded(request.media_type, seed.encode())
    side = 4
    data = (hashlib.shake_256(seed.encode())).digest(side * side * 3)
    return Pixels(side, side, 3, data)


def make_request(**changes: Any) -> Request:
    """Return a request that differs from the usual one only in what you name."""
    usual = Request(prompt="a lighthouse at dusk", seed=7, model=ModelRef(source="zit"))
    return replace(usual, **changes)


def make_entry(**changes: Any) -> Entry:
    """Return an entry that differs from the usual one only in what you name."""
    usual = Entry(
        key=_digest("key"),
        blob=Blob(digest=_digest("blob"), size=1_500_000),
        content_digest=_digest("content"),
        created_at=1_800_000_000.0,
        used_at=1_800_000_000.0,
        cost=3.0,
    )
    return replace(usual, **changes)


def make_file(source: str) -> FileRef:
    """Return a reference as a caller would give it."""
    return FileRef(source=source)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
