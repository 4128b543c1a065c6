"""What a hit costs, against a plain read of the same file and against the founding article's cache.

`python -m benchmarks.hits [--quick] [--json FILE]`
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy

from zit_ext import ModelRef, Outcome, Request, Settings
from zit_ext.codecs import Pixels
from zit_ext.pipeline import Rendered, Watcher
from zit_ext.plugins import find_plugins
from zit_ext.runtime import Runtime

from .article_cache import ArticleCache
from .report import Row, Spread, measure, milliseconds, run

SIDE = 1024
ENVIRONMENT = {"device": "benchmark"}


def picture(seed: int) -> Pixels:
    """Return a picture about as hard to compress as a real one: smooth, with grain in the low bits."""
    grain = numpy.random.default_rng(seed).integers(0, 12, (SIDE, SIDE, 3), numpy.uint8)
    slope = numpy.linspace(0, 240, SIDE).astype(numpy.uint8)
    return Pixels(SIDE, SIDE, 3, (slope[:, None, None] + grain).tobytes())


class PictureRenderer:
    """Renders in no time, so that everything else can be seen."""

    def __init__(self) -> None:
        self.renders = 0
        self.seconds = 0.0
        self.ready: dict[int, Pixels] = {}

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        self.renders += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        pixels = self.ready.pop(request.seed, None) or picture(request.seed)
        return Rendered(pixels, 3.0, ENVIRONMENT)

    async def close(self) -> None:
        return None


def benchmark(quick: bool) -> Sequence[Row]:
    """What a hit costs, against a plain read and against the founding article's cache."""
    entries = 50 if quick else 1000
    n = 20 if quick else 300
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = folder / "weights"
        weights.mkdir()
        (weights / "model.safetensors").write_bytes(b"benchmark")
        request = Request(prompt="a lighthouse at dusk", seed=1, model=ModelRef(source=str(weights)))
        settings = Settings(cache_dir=folder / "cache", max_entries=entries + 10, max_bytes=0)
        rows = _in_process(settings, request, folder, entries, n)
        rows += _new_process(settings, request, folder, 3 if quick else 15)
        rows += _together(settings, request)
        return rows


def _in_process(settings: Settings, request: Request, folder: Path, entries: int, n: int) -> list[Row]:
    article = ArticleCache(folder / "article", max_entries=entries)
    renderer = PictureRenderer()
    plugins = find_plugins(entry_points=False)
    sets: list[float] = []
    article_sets: list[float] = []
    with Runtime(settings, plugins=plugins, renderer=renderer) as runtime:
        for seed in range(entries):
            renderer.ready[seed] = picture(seed)
            started = time.perf_counter()
            result = runtime.generate_blocking(replace(request, seed=seed))
            sets.append(time.perf_counter() - started)
            runtime.store.flush()
            png = result.data()
            started = time.perf_counter()
            article.put(_article_key(seed), png)
            article_sets.append(time.perf_counter() - started)
    files = sorted(path for path in (settings.cache_dir / "results" / "blobs").rglob("*") if path.is_file())
    order = random.Random(0)
    seeds = [order.randrange(entries) for _ in range(n)]
    plain = measure(lambda index: files[seeds[index % n]].read_bytes(), n)
    from_article = measure(lambda index: article.get(_article_key(seeds[index % n])), n)
    no_memory = replace(settings, memory_bytes=0)
    with Runtime(no_memory, plugins=find_plugins(entry_points=False), renderer=renderer) as runtime:
        renders = renderer.renders
        disk = measure(lambda index: _hit(runtime, replace(request, seed=seeds[index % n])), n)
    with Runtime(settings, plugins=find_plugins(entry_points=False), renderer=renderer) as runtime:
        memory = measure(lambda index: _hit(runtime, request), n)
    assert renderer.renders == renders, "a hit rendered"
    size = sum(path.stat().st_size for path in files) / len(files) / 1e6
    return [
        milliseconds(f"plain read of the same files ({size:.1f} MB)", plain),
        milliseconds("hit from disk, whole engine, another thread's question", disk, "plain read", plain),
        milliseconds("hit from memory, whole engine, another thread's question", memory, "plain read", plain),
        milliseconds(f"article's cache, get at {entries} entries", from_article, "plain read", plain),
        milliseconds("hit from disk against the article's get", disk, "article's get", from_article),
        milliseconds("engine's miss without the render (accepted, written behind)", Spread(tuple(sets))),
        milliseconds(
            f"article's put at its limit of {entries} entries",
            Spread(tuple(article_sets[-len(article_sets) // 4 :])),
            "engine's miss",
            Spread(tuple(sets)),
        ),
    ]


def _hit(runtime: Runtime, request: Request) -> bytes:
    result = runtime.generate_blocking(request)
    assert result.status.outcome is Outcome.HIT, result.status.header()
    return result.data()


def _article_key(seed: int) -> str:
    return ArticleCache.key("a lighthouse at dusk", "", SIDE, SIDE, 8, 0.0, seed)


_BARE = "import sys; data = open(sys.argv[1], 'rb').read(); assert data"
_HIT = """
import sys
from zit_ext import ModelRef, Request, Settings
from zit_ext.runtime import Runtime
from pathlib import Path
settings = Settings(cache_dir=Path(sys.argv[1]), max_bytes=0)
with Runtime(settings) as runtime:
    result = runtime.generate_blocking(
        Request(prompt="a lighthouse at dusk", seed=1, model=ModelRef(source=sys.argv[2]))
    )
    assert result.status.header().startswith("zit_ext; hit"), result.status.header()
    assert "torch" not in sys.modules
"""


def _new_process(settings: Settings, request: Request, folder: Path, n: int) -> list[Row]:
    any_blob = next(path for path in (settings.cache_dir / "results" / "blobs").rglob("*") if path.is_file())
    bare = measure(lambda _: _python(_BARE, str(any_blob)), n, warm_up=1)
    hit = measure(lambda _: _python(_HIT, str(settings.cache_dir), request.model.source), n, warm_up=1)
    return [
        milliseconds("new process: start of Python to the bytes of a file", bare),
        milliseconds("new process: start of Python to a verified hit, and closed", hit, "bare Python", bare),
    ]


def _python(code: str, *arguments: str) -> None:
    # As users have it: what was compiled once is not compiled again.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environ)


def _together(settings: Settings, request: Request) -> list[Row]:
    renderer = PictureRenderer()
    renderer.seconds = 0.2
    with Runtime(settings, plugins=find_plugins(entry_points=False), renderer=renderer) as runtime:
        asked = replace(request, prompt="a hundred at once")
        futures = [runtime.submit(asked) for _ in range(100)]
        digests = {future.result().digest for future in futures}
    assert len(digests) == 1
    return [
        Row(
            name="renders for 100 requests at once",
            value=renderer.renders,
            unit="renders",
            n=100,
            peer="100",
            ratio=renderer.renders / 100,
        )
    ]


if __name__ == "__main__":
    sys.exit(run(benchmark))
