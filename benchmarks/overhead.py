"""What the engine adds to a miss, against calling diffusers directly with the same tiny model.

`python -m benchmarks.overhead [--quick] [--json FILE]`; needs torch and diffusers. Each of the two has
a process of its own, and they are asked in turn, each as often first as second: two that compute at the
same time would slow each other down, and both see the same weather of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zit_ext import ModelRef, Outcome, Request, Settings
from zit_ext.models import tiny
from zit_ext.plugins import find_plugins
from zit_ext.runtime import Runtime

from .report import Row, Spread, milliseconds, run

WARM_UP = 3
PAUSE = 0.1
"""Seconds in which what the other one still does (torch's threads spin, a PNG is written) comes to an end."""


def benchmark(quick: bool) -> Sequence[Row]:
    """What the engine adds to a miss, against calling diffusers directly."""
    sides = (256,) if quick else (64, 256, 512)
    n = 4 if quick else 60
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        model = str(tiny.build(Path(temporary) / "model"))
        for side in sides:
            engine, diffusers = (
                _Child(kind, model, side, str(Path(temporary) / f"cache-{side}")) for kind in CHILDREN
            )
            rows += _compared(engine, diffusers, side, n)
    return rows


def _compared(engine: _Child, diffusers: _Child, side: int, n: int) -> list[Row]:
    with engine, diffusers:
        pairs = [_asked(engine, diffusers, seed) for seed in range(n + WARM_UP)]
    for ours, theirs in pairs:
        assert ours["digest"] == theirs["digest"], "the engine's picture is not diffusers' picture"
    pairs = pairs[WARM_UP:]
    by_engine, by_diffusers = (Spread(tuple(pair[index]["seconds"] for pair in pairs)) for index in (0, 1))
    added = Spread(tuple(ours["seconds"] - theirs["seconds"] for ours, theirs in pairs))
    name = f"{side}x{side}, 8 steps, a new prompt each time"
    return [
        milliseconds(f"diffusers, {name}", by_diffusers),
        milliseconds(f"engine's miss, {name}", by_engine, "diffusers", by_diffusers),
        milliseconds(f"added by the engine, {name}", added, "diffusers", by_diffusers),
    ]


def _asked(engine: _Child, diffusers: _Child, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    answers = {}
    for child in (engine, diffusers) if seed % 2 else (diffusers, engine):
        time.sleep(PAUSE)
        answers[child] = child.ask(seed)
    return answers[engine], answers[diffusers]


class _Child:
    """A process that renders one seed after the other, and says how long each took."""

    def __init__(self, kind: str, model: str, side: int, cache_dir: str) -> None:
        command = [sys.executable, "-m", "benchmarks.overhead", "child", kind, model, str(side), cache_dir]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(timeout=120)

    def ask(self, seed: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _prompt(seed: int) -> str:
    return f"a red fox in the snow {seed}"


def _engine_child(model: str, side: int, cache_dir: str) -> None:
    settings = Settings(cache_dir=Path(cache_dir))
    request = Request(prompt="", seed=0, model=ModelRef(source=model), width=side, height=side)
    with Runtime(settings, plugins=find_plugins(entry_points=False)) as runtime:

        def render(seed: int) -> tuple[Callable[[], str], float]:
            started = time.perf_counter()
            result = runtime.generate_blocking(replace(request, seed=seed, prompt=_prompt(seed)))
            seconds = time.perf_counter() - started
            assert result.status.outcome is Outcome.MISS
            return lambda: result.digest, seconds

        _answer(render)


def _diffusers_child(model: str, side: int, _cache_dir: str) -> None:
    import torch
    from diffusers import ZImagePipeline

    from zit_ext.codecs import Pixels

    pipe = ZImagePipeline.from_pretrained(model, local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def render(seed: int) -> tuple[Callable[[], str], float]:
        started = time.perf_counter()
        image = pipe(
            prompt=_prompt(seed),
            width=side,
            height=side,
            num_inference_steps=8,
            guidance_scale=0.0,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        seconds = time.perf_counter() - started
        return lambda: Pixels(side, side, 3, image.tobytes()).digest, seconds

    _answer(render)


def _answer(render: Callable[[int], tuple[Callable[[], str], float]]) -> None:
    for line in sys.stdin:
        digest, seconds = render(int(line))
        print(json.dumps({"seconds": seconds, "digest": digest()}), flush=True)


CHILDREN = {"engine": _engine_child, "diffusers": _diffusers_child}

if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        CHILDREN[sys.argv[2]](sys.argv[3], int(sys.argv[4]), sys.argv[5])
        sys.exit(0)
    sys.exit(run(benchmark))
