"""How a benchmark measures and reports: rows with a peer and a ratio, as a table and as JSON."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of several runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * 0.99))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    n: int
    p99: float | None = None
    peer: str | None = None
    """What it is compared with, measured in the same run."""
    ratio: float | None = None
    """value / the peer's value: below 1 is faster or smaller than the peer."""
    machine: str = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())


def measure(work: Callable[[int], object], n: int, warm_up: int = 3) -> Spread:
    """Return how long each of n calls took; `work` gets the number of its call."""
    for index in range(warm_up):
        work(index)
    gc.collect()
    seconds = []
    for index in range(n):
        started = time.perf_counter()
        work(index)
        seconds.append(time.perf_counter() - started)
    return Spread(tuple(seconds))


def milliseconds(name: str, spread: Spread, peer: str | None = None, than: Spread | None = None) -> Row:
    """Return the row of a spread, in milliseconds, compared by medians."""
    return Row(
        name=name,
        value=spread.p50 * 1000,
        p99=spread.p99 * 1000,
        unit="ms",
        n=len(spread.seconds),
        peer=peer,
        ratio=None if than is None else spread.p50 / than.p50,
    )


def machine() -> str:
    """Return what kind of machine this is, without naming it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Return the versions that matter for a figure."""
    found = {"python": platform.python_version()}
    for package in ("torch", "diffusers", "xxhash", "fpng", "numpy", "aiohttp"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_table(rows: Sequence[Row]) -> str:
    """Return the rows as text for people."""
    lines = [("figure", "p50", "p99", "n", "against", "ratio")]
    for row in rows:
        p99 = "" if row.p99 is None else f"{row.p99:.3f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        lines.append((row.name, f"{row.value:.3f} {row.unit}", p99, str(row.n), row.peer or "", ratio))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def run(benchmark: Callable[[bool], Sequence[Row]], arguments: list[str] | None = None) -> int:
    """Run a benchmark as a program: `[--quick] [--json FILE]`."""
    parser = argparse.ArgumentParser(description=(benchmark.__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs: a smoke test, no figures to quote")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too")
    options = parser.parse_args(arguments)
    rows = benchmark(options.quick)
    print(as_table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0
