"""Which eviction policy saves the most rendering, against an optimum that knows the future.

`python -m benchmarks.eviction [--quick] [--json FILE]`

A simulation of the store's rule (lowest score goes first; `floor` is the highest score evicted so far)
with the real policies, on a trace as users make them: popular requests (Zipf), bursts of one request,
scans of seeds that never come back, and switches between models whose pictures differ in cost and size.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zit_ext.default_plugins.eviction import POLICIES
from zit_ext.records import Blob, Entry

from .report import Row, run

NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that may be asked for."""

    name: int
    size: int
    cost: float


def make_trace(length: int, chance: random.Random) -> list[Wanted]:
    """Return requests in the order in which they come."""
    models = (
        # (how large, how dear): a small fast picture, the usual one, and a large slow one
        (400_000, 0.8),
        (1_600_000, 3.0),
        (6_000_000, 14.0),
    )
    population = [
        Wanted(name, int(size * chance.uniform(0.8, 1.2)), cost * chance.uniform(0.9, 1.1))
        for name in range(20_000)
        for size, cost in (models[name % 3],)
    ]
    weights = [1.0 / (rank + 1) ** 0.9 for rank in range(len(population))]
    popular = chance.choices(population, weights, k=length)
    trace: list[Wanted] = []
    fresh = len(population)
    model = 1
    while len(trace) < length:
        what = chance.random()
        if what < 0.02:  # a scan: seeds that nobody asks for again
            size, cost = models[model]
            for _ in range(chance.randrange(20, 120)):
                trace.append(Wanted(fresh, size, cost))
                fresh += 1
        elif what < 0.10:  # a burst: an X/Y plot or a page that reloads
            trace += [popular[len(trace) % length]] * chance.randrange(2, 8)
        elif what < 0.105:
            model = chance.randrange(3)
        else:
            wanted = popular[len(trace) % length]
            if wanted.name % 3 == model or chance.random() < 0.4:
                trace.append(wanted)
    return trace[:length]


def saved_by(policy: Callable[[Entry, float], float], trace: Sequence[Wanted], cap: int) -> float:
    """Return the seconds of rendering that a store of `cap` bytes saves under a policy."""
    held: dict[int, tuple[Entry, float]] = {}
    queue: list[tuple[float, int, int]] = []
    used, sequence, saved, floor = 0, 0, 0.0, 0.0
    for wanted in trace:
        sequence += 1
        known = held.get(wanted.name)
        if known is not None:
            saved += wanted.cost
            entry = replace(known[0], uses=known[0].uses + 1, sequence=sequence)
        else:
            while used + wanted.size > cap and queue:
                score, _, name = heapq.heappop(queue)
                victim = held.get(name)
                if victim is None or victim[1] != score:
                    continue  # its score has changed since
                floor = max(floor, score)
                used -= victim[0].blob.size
                del held[name]
            entry = Entry(
                key=str(wanted.name),
                blob=Blob("", wanted.size),
                content_digest="",
                created_at=0.0,
                used_at=0.0,
                sequence=sequence,
                cost=wanted.cost,
            )
            used += wanted.size
        score = policy(entry, floor)
        held[wanted.name] = (entry, score)
        heapq.heappush(queue, (score, sequence, wanted.name))
    return saved


def saved_with_foresight(trace: Sequence[Wanted], cap: int) -> float:
    """Return what a store that knows the future saves: least render seconds per byte and waiting goes first.

    Belady's rule, weighed by cost. For entries of unlike size the true optimum is NP-hard; this is the
    usual yardstick, and no online policy reached it in any run.
    """
    next_use = [NEVER] * len(trace)
    seen: dict[int, int] = {}
    for index in range(len(trace) - 1, -1, -1):
        next_use[index] = seen.get(trace[index].name, NEVER)
        seen[trace[index].name] = index
    held: dict[int, tuple[Wanted, int]] = {}
    used, saved = 0, 0.0
    for index, wanted in enumerate(trace):
        if wanted.name in held:
            saved += wanted.cost
        elif next_use[index] == NEVER:
            continue  # whoever knows the future does not keep what nobody asks for again
        else:
            used += wanted.size
        held[wanted.name] = (wanted, next_use[index])
        if next_use[index] == NEVER:
            used -= wanted.size
            del held[wanted.name]
        while used > cap:
            sample = held.values()
            victim = min(sample, key=lambda one: one[0].cost / (one[0].size * (one[1] - index)))[0]
            used -= victim.size
            del held[victim.name]
    return saved


def benchmark(quick: bool) -> Sequence[Row]:
    """Which eviction policy saves the most rendering."""
    length = 4_000 if quick else 40_000
    trace = make_trace(length, random.Random(1))
    total = sum(wanted.cost for wanted in trace)
    rows: list[Row] = []
    for cap in (200_000_000, 1_000_000_000, 4_000_000_000):
        best = saved_with_foresight(trace, cap)
        name = f"cap {cap / 1e9:g} GB"
        rows.append(
            Row(
                name=f"{name}: with foresight",
                value=best,
                unit="s saved",
                n=length,
                peer="all",
                ratio=best / total,
            )
        )
        for policy, score in POLICIES.items():
            saved = saved_by(score, trace, cap)
            rows.append(
                Row(
                    name=f"{name}: {policy}",
                    value=saved,
                    unit="s saved",
                    n=length,
                    peer="foresight",
                    ratio=saved / best,
                )
            )
    return rows


if __name__ == "__main__":
    sys.exit(run(benchmark))
