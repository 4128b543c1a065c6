"""One process of the demo: `python -m zit_ext.demo.step first|restart|audit JOB.json`.

`first` renders cold, then with resident weights, then asks again. `restart` asks again in a new
process. `audit` asks with a random seed, and then renders once more with the cache off and compares.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ZitError
from ..records import CacheMode, ModelRef, Request, Result
from ..renderers.local import LocalRenderer
from ..runtime import Runtime
from ..settings import Settings
from .rows import Row, write_rows

TOLD = 2
"""Exit status of a step that could not be made, and said why."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the demo asks for, and where it puts things."""

    model: str
    side: int
    prompt: str
    seed: int
    out: Path
    cache_dir: Path

    @classmethod
    def read(cls, path: Path) -> Job:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "out": Path(values["out"]), "cache_dir": Path(values["cache_dir"])})

    def request(self) -> Request:
        return Request(
            prompt=self.prompt,
            seed=self.seed,
            model=ModelRef(source=self.model),
            width=self.side,
            height=self.side,
        )

    def settings(self) -> Settings:
        """The user's own settings, but with the cache on and in the demo's own folder."""
        return replace(
            Settings.load(),
            cache_dir=self.cache_dir,
            disable_cache=False,
            debug=False,
            keep_random=False,
            ttl_seconds=86_400.0,
        )


class Step:
    """A process with one engine, and the rows that it measures."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows: list[Row] = []
        self.runtime = Runtime(job.settings(), label="demo")

    def ask(self, name: str, request: Request, *, expect: str, same_as: str | None = None) -> Result:
        """Ask the engine, note what happened, and what should have been otherwise."""
        result = self.runtime.generate_blocking(request)
        path = result.save(self.job.out / f"{name}.png")
        problems = []
        if result.status.outcome.value != expect:
            problems.append(f"expected a {expect}, got a {result.status.outcome.value}")
        identical = None if same_as is None else result.digest == same_as
        if identical is False:
            problems.append("the pixels differ from those of the first render")
        self.rows.append(
            Row(
                name=name,
                outcome=result.status.outcome.value,
                tier=result.status.tier.value,
                seconds=result.seconds,
                loads=self._loads(),
                key=result.status.key,
                digest=result.digest,
                torch_imported="torch" in sys.modules,
                identical=identical,
                cache_status=result.status.header(),
                file=path.name,
                file_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
                problems=tuple(problems),
            )
        )
        return result

    def _loads(self) -> int:
        renderer = self.runtime.renderer
        return renderer.holdings().loads if isinstance(renderer, LocalRenderer) else 0


def first(step: Step) -> None:
    request = step.job.request()
    cold = step.ask("cold", request, expect="miss")
    step.ask("resident", replace(request, seed=request.seed + 1), expect="miss")
    step.ask("hit", request, expect="hit", same_as=cold.digest)


def restart(step: Step) -> None:
    step.ask("restart", step.job.request(), expect="hit")
    imported = {"torch", "diffusers"} & sys.modules.keys()
    if imported:
        step.rows[-1] = replace(
            step.rows[-1], problems=(*step.rows[-1].problems, f"imported {', '.join(sorted(imported))}")
        )


def audit(step: Step) -> None:
    request = step.job.request()
    step.ask("bypass", replace(request, seed=-1), expect="bypass")
    stored = step.runtime.generate_blocking(replace(request, cache=CacheMode.ONLY))
    fresh = step.ask("audit", replace(request, cache=CacheMode.AUDIT), expect="bypass", same_as=stored.digest)
    row = step.rows[-1]
    # Not only the digests: the pixels themselves, and the file as it would be written.
    same = fresh.pixels() == stored.pixels() and fresh.data() == stored.data()
    if not same:
        row = replace(row, problems=(*row.problems, "a new render differs from the stored picture"))
    step.rows[-1] = replace(row, identical=same)


STEPS = {"first": first, "restart": restart, "audit": audit}


def main(arguments: list[str]) -> int:
    """Run one step and write its rows beside the pictures. Return the exit status."""
    name, job_file = arguments
    job = Job.read(Path(job_file))
    try:
        _run(name, job)
    except ZitError as error:
        print(f"The demo stopped: {error}", file=sys.stderr)
        return TOLD
    return 0


def _run(name: str, job: Job) -> None:
    step = Step(job)
    try:
        STEPS[name](step)
        if len(step.rows) == 1:
            step.rows[0] = replace(step.rows[0], process_seconds=time.time() - _process_started())
    finally:
        step.runtime.close(patience=600.0)
    write_rows(job.out / f"{name}.rows.json", step.rows)


def _process_started() -> float:
    return float(sys.argv[3]) if len(sys.argv) > 3 else time.time()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:3]))
