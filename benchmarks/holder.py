"""What holding weights saves when people switch among more models than fit, and whether memory stays flat.

`python -m benchmarks.holder [trace|memory] [--quick] [--json FILE]`; without a word, both.

First, one trace of requests for five models of Z-Image's size on a card of 24 GB with 44 GB of RAM for parked
weights. The product's own holder and line serve it, ten times faster than life, with weights whose loads
and moves take what the bytes take at 2 GB/s from disk and 12 GB/s to the card. The peers are simulated with
the same times: who loads on every switch, whole models under LRU, and an optimum that knows the future (the
fewest loads in order of arrival, its moves for nothing). The peers have no overhead, and swap whole models in
place. Ours is measured with all that its threads cost, ten times over: a busy machine lengthens its waits.
It may let a request go before another, so they can also be shorter than the optimum's.

Then real pipelines of torch and diffusers, tiny ones: a thousand switches among three models under a budget
for one, and what the process weighs before and after them (aim: within 1 %).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from zit_ext.codecs import Pixels
from zit_ext.pipeline import Lease, Part, Pipeline, Rendered, Watcher, WeightTier
from zit_ext.records import ModelRef, Request
from zit_ext.renderers.local import LocalRenderer
from zit_ext.settings import Settings
from zit_ext.testing import QuietWatcher

from .report import Row, run

PARTS = {"text_encoder": 8_040_000_000, "transformer": 12_310_000_000, "vae": 170_000_000}
STAGE_SECONDS = {"text_encoder": 0.2, "transformer": 2.6, "vae": 0.2}
MODEL_BYTES = sum(PARTS.values())
RENDER_SECONDS = sum(STAGE_SECONDS.values())
LOAD_SECONDS = MODEL_BYTES / 2e9
MOVE_SECONDS = MODEL_BYTES / 12e9
VRAM, RAM = 24_000_000_000, 44_000_000_000
HELD_WHOLE = VRAM // MODEL_BYTES + RAM // MODEL_BYTES
FASTER = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the trace."""

    at: float
    """Seconds after the first one."""
    model: str


@dataclass(slots=True)
class Served:
    """How a trace was served."""

    loads: int = 0
    lost_seconds: float = 0.0
    """Spent loading and moving."""
    waits: list[float] = field(default_factory=list)
    """From each request to its answer, without its own render."""


def make_trace(length: int, chance: random.Random) -> list[Asked]:
    """Return requests as people make them: they stay with a model for a while, and ask for batches."""
    models, weights = "abcde", [1 / (rank + 1) for rank in range(5)]
    at, model = 0.0, "a"
    trace: list[Asked] = []
    while len(trace) < length:
        if chance.random() < 0.35:
            (model,) = chance.choices(models, weights)
        trace += [Asked(at, model)] * (4 if chance.random() < 0.1 else 1)
        at += chance.expovariate(1 / 8.0)
    return trace[:length]


# The peers, simulated: one request after another, in order of arrival

Cost = Callable[[int], tuple[bool, float]]
"""Of the request with this number: whether it loads, and how many seconds of loading and moving it costs."""


def in_order(trace: Sequence[Asked], cost: Cost) -> Served:
    served, free_at = Served(), 0.0
    for number, asked in enumerate(trace):
        loads, seconds = cost(number)
        served.loads += loads
        served.lost_seconds += seconds
        free_at = max(free_at, asked.at) + seconds + RENDER_SECONDS
        served.waits.append(free_at - asked.at - RENDER_SECONDS)
    return served


def load_on_every_switch(trace: Sequence[Asked]) -> Served:
    def cost(number: int) -> tuple[bool, float]:
        same = number > 0 and trace[number - 1].model == trace[number].model
        return not same, 0.0 if same else LOAD_SECONDS + MOVE_SECONDS

    return in_order(trace, cost)


def whole_models(trace: Sequence[Asked]) -> Served:
    """One model on the card and the others in RAM, the least recently used one goes."""
    held: list[str] = []  # the last one is on the card

    def cost(number: int) -> tuple[bool, float]:
        model = trace[number].model
        if held and held[-1] == model:
            return False, 0.0
        seconds = MOVE_SECONDS * (2 if held else 1)  # the other one down, this one up
        loads = model not in held
        if not loads:
            held.remove(model)
        elif len(held) >= HELD_WHOLE:
            held.pop(0)
        held.append(model)
        return loads, seconds + (LOAD_SECONDS if loads else 0.0)

    return in_order(trace, cost)


def with_foresight(trace: Sequence[Asked]) -> Served:
    """The fewest loads that serve these requests in order (Belady): whose next use is farthest goes."""
    held: set[str] = set()

    def next_use(model: str, after: int) -> int:
        later = (number for number in range(after + 1, len(trace)) if trace[number].model == model)
        return next(later, len(trace))

    def cost(number: int) -> tuple[bool, float]:
        model = trace[number].model
        if model in held:
            return False, 0.0
        if len(held) >= HELD_WHOLE:
            held.remove(max(held, key=lambda each: next_use(each, number)))
        held.add(model)
        return True, LOAD_SECONDS

    return in_order(trace, cost)


# Ours


class TimedPipeline:
    """Weights without the bytes: loads, moves and renders take their time, ten times faster."""

    def __init__(self, served: Served, shared: bool) -> None:
        self._served = served
        self._places = {name: [WeightTier.RAM] for name in PARTS}
        self._shared = shared
        self.parts = [Part(name, size, self._identity(name)) for name, size in PARTS.items()]

    def _identity(self, name: str) -> str:
        return name if self._shared and name != "transformer" else f"{name} of {id(self)}"

    def move(self, part: str, tier: WeightTier) -> None:
        if self._places[part][0] is not tier:
            seconds = PARTS[part] / 12e9
            self._served.lost_seconds += seconds
            time.sleep(seconds / FASTER)
            self._places[part][0] = tier

    def adopt(self, part: str, other: Pipeline) -> bool:
        if not self._shared or not isinstance(other, TimedPipeline):
            return False
        self._places[part] = other._places[part]
        return True

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        for part, seconds in STAGE_SECONDS.items():
            stage: AbstractContextManager[None] = lease(part)
            with stage:
                time.sleep(seconds / FASTER)
        return Rendered(Pixels(1, 1, 3, bytes(3)), RENDER_SECONDS, {})

    def close(self) -> None:
        self._places.clear()


async def by_us(trace: Sequence[Asked], place: Path, shared: bool) -> Served:
    """Serve the trace with the product's holder and line."""
    served = Served(waits=[0.0] * len(trace))

    def open_pipeline(model: ModelRef) -> TimedPipeline:
        served.lost_seconds += LOAD_SECONDS
        time.sleep(LOAD_SECONDS / FASTER)
        return TimedPipeline(served, shared)

    settings = Settings(
        cache_dir=place, vram_bytes=VRAM, ram_bytes=RAM, keep_alive=-1, queue_limit=len(trace)
    )
    renderer = LocalRenderer(
        settings,
        open_pipeline=open_pipeline,
        make_room=lambda wanted, device: 0,
        device="cuda:0",
        free_ram=lambda: 16_000_000_000,
    )
    files = {}
    for model in {asked.model for asked in trace}:
        files[model] = place / f"{model}.safetensors"
        with files[model].open("wb") as file:
            file.truncate(MODEL_BYTES)  # a file with a hole: its size is what counts
    started = time.perf_counter()

    async def ask(number: int, asked: Asked) -> None:
        await asyncio.sleep(started + asked.at / FASTER - time.perf_counter())
        model = ModelRef(source=asked.model, path=files[asked.model], identity=asked.model)
        await renderer.render(Request(prompt="", seed=number, model=model), QuietWatcher())
        seconds = (time.perf_counter() - started) * FASTER - asked.at
        served.waits[number] = max(0.0, seconds - RENDER_SECONDS)

    await asyncio.gather(*(ask(number, asked) for number, asked in enumerate(trace)))
    served.loads = renderer.holdings().loads
    await renderer.close()
    return served


def switching(quick: bool, place: Path) -> list[Row]:
    trace = make_trace(30 if quick else 250, random.Random(4))
    ways = {
        "load on every switch": load_on_every_switch(trace),
        "whole models, LRU": whole_models(trace),
        "zit_ext": asyncio.run(by_us(trace, place, shared=False)),
        "zit_ext, one text encoder and VAE for all": asyncio.run(by_us(trace, place, shared=True)),
        "optimum with foresight": with_foresight(trace),
    }
    usual = ways["load on every switch"]
    rows = []
    for name, served in ways.items():
        waits = sorted(served.waits)
        p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
        figures = [
            ("loads", float(served.loads), float(usual.loads), "loads", None),
            ("loading and moving", served.lost_seconds, usual.lost_seconds, "s", None),
            ("wait", statistics.median(waits), statistics.median(usual.waits), "s", p99),
        ]
        for what, value, than, unit, tail in figures:
            rows.append(
                Row(
                    name=f"{what}: {name}",
                    value=value,
                    unit=unit,
                    n=len(trace),
                    p99=tail,
                    peer="load on every switch",
                    ratio=value / than if than else None,
                )
            )
    return sorted(rows, key=lambda row: row.name.partition(":")[0])


# Real weights


def resident_bytes() -> int | None:
    """Return how much of this process is in RAM; None where the system does not tell like Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096


async def memory_after(folders: Sequence[Path], place: Path, warm_up: int, switches: int) -> list[Row]:
    """Switch among real pipelines under a budget for one, and weigh the process before and after."""
    from zit_ext.models import zimage

    settings = Settings(cache_dir=place, device="cpu", max_models=1)
    renderer = LocalRenderer(
        settings,
        open_pipeline=lambda model: zimage.open_pipeline(model, settings),
        make_room=lambda wanted, device: 0,
    )
    numbers = itertools.count()
    # Made before: what is weighed must not grow by it.
    seconds = array("d", bytes(8 * (3 * warm_up + switches)))

    async def switch(times: int) -> None:
        for number in itertools.islice(numbers, times):  # never the same model twice running
            folder = folders[number % len(folders)]
            model = ModelRef(source=str(folder), path=folder, identity=str(folder))
            request = Request(prompt="a fox", seed=number, model=model, width=64, height=64, steps=1)
            started = time.perf_counter()
            await renderer.render(request, QuietWatcher())
            seconds[number] = time.perf_counter() - started

    def objects() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    await switch(warm_up)
    gc.collect()
    before = resident_bytes()
    await switch(switches)
    gc.collect()
    after = resident_bytes()
    tracemalloc.start()  # last: its notes of who allocated what are no small part of the process
    try:
        await switch(warm_up)
        traced = objects()
        await switch(warm_up)
        traced_after = objects()
    finally:
        tracemalloc.stop()
    loads = renderer.holdings().loads
    await renderer.close()
    if loads != warm_up * 3 + switches:
        raise AssertionError(f"{loads} loads, and each request should be one")
    rows = []
    weighed = (("RSS", before, after, switches), ("Python objects", traced, traced_after, warm_up))
    for name, start, end, n in weighed:
        if start is not None and end is not None:
            rows.append(
                Row(
                    name=f"memory after switches: {name}",
                    value=end / 1e6,
                    unit="MB",
                    n=n,
                    peer=f"at the start, {start / 1e6:.1f} MB",
                    ratio=end / start,
                )
            )
    ordered = sorted(seconds[warm_up : warm_up + switches])
    rows.append(
        Row(
            name="a switch among real tiny pipelines, with its picture",
            value=statistics.median(ordered) * 1000,
            p99=ordered[int(len(ordered) * 0.99)] * 1000,
            unit="ms",
            n=switches,
        )
    )
    return rows


def trace(quick: bool) -> Sequence[Row]:
    """What holding weights saves when people switch among more models than fit."""
    with tempfile.TemporaryDirectory() as place:
        return switching(quick, Path(place))


def memory(quick: bool) -> Sequence[Row]:
    """What a process weighs after switches among real models, against the start."""
    from zit_ext.models import tiny

    with tempfile.TemporaryDirectory() as place:
        folders = [tiny.build(Path(place) / name) for name in ("one", "two", "three")]
        switches = 30 if quick else 1000
        return asyncio.run(memory_after(folders, Path(place), switches // 5 + 3, switches))


def benchmark(quick: bool) -> Sequence[Row]:
    """What holding weights saves, and whether memory stays flat."""
    return [*trace(quick), *memory(quick)]


if __name__ == "__main__":
    part = {"trace": trace, "memory": memory}.get("".join(sys.argv[1:2]))
    sys.exit(run(benchmark) if part is None else run(part, sys.argv[2:]))
