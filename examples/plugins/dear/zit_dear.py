"""An eviction policy: what took long to render stays longest. Choose it with ZIT_EVICTION=dear.

The built-in `cost` weighs seconds by bytes and uses, which suits a store that is full by bytes. This one
suits a store that is full by entries: each is worth the seconds that its next hit saves. `floor` ages it:
what was dear once, and is never asked for, goes in the end.
"""

from __future__ import annotations

from zit_ext import Entry, hookimpl


@hookimpl
def zit_eviction_score(policy: str, entry: Entry, floor: float) -> float | None:
    return floor + entry.cost if policy == "dear" else None
