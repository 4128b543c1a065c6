"""The built-in eviction policies. A policy is one line: what is an entry worth?

`floor` is the highest score that the caps have evicted so far: adding it ages what was once popular.
`cost` is GreedyDual-Size-Frequency (Cherkasova 1998) with render seconds as the cost of a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..hookspecs import hookimpl
from ..records import Entry

POLICIES: Mapping[str, Callable[[Entry, float], float]] = {
    "lru": lambda entry, floor: float(entry.sequence),
    "lfu": lambda entry, floor: floor + entry.uses + 1,
    "cost": lambda entry, floor: floor + (entry.uses + 1) * entry.cost * 1e6 / max(entry.blob.size, 1),
}


@hookimpl(trylast=True)
def zit_eviction_score(policy: str, entry: Entry, floor: float) -> float | None:
    score = POLICIES.get(policy)
    return None if score is None else score(entry, floor)
