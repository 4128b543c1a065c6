"""The hooks. Implement any of them with `zit_ext.hookimpl`.

Hooks are plain functions. Each is called on one thread only, named in its docstring. Keep them
quick, and let the same arguments give the same answer. Accept only the arguments you need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

from .records import Entry, FieldValue, ModelRef, Request, Result

if TYPE_CHECKING:
    from .pipeline import Pipeline

hookspec = pluggy.HookspecMarker("zit_ext")
hookimpl = pluggy.HookimplMarker("zit_ext")


@hookspec
def zit_fingerprint_fields(request: Request) -> Mapping[str, FieldValue] | None:
    """Return the fields of the request that change the picture, or None. Thread: zit-engine.

    The answers of all plugins are merged into the cache key, each under `plugin_name.field`. Leave a
    field out while it has no effect, so that installing your plugin keeps old entries warm.
    """


@hookspec(firstresult=True)
def zit_bypass_reason(request: Request) -> str | None:
    """Return a few words on why this request must not touch the cache, or None. Thread: zit-engine.

    The first answer wins. The words are shown to the user as they are.
    """


@hookspec(firstresult=True)
def zit_eviction_score(policy: str, entry: Entry, floor: float) -> float | None:
    """Return how much the entry is worth keeping under the named policy, or None. Thread: zit-store.

    The lowest score goes first. `floor` is the highest score that was evicted so far by the caps:
    add it, and old entries grow relatively cheaper with time. Answer only for your own policy.
    """


@hookspec(firstresult=True)
def zit_open_pipeline(model: ModelRef) -> Pipeline | None:
    """Read these weights into RAM and return their pipeline, or None. Thread: zit-load."""


@hookspec
def zit_make_room(bytes_needed: int, device: str) -> int | None:
    """Free up to `bytes_needed` bytes that you hold on the device; return how many. Thread: zit-gpu.

    Called before weights move to the device. Hosts implement it to put their own models aside.
    """


@hookspec
def zit_request_finished(request: Request, result: Result, seconds: float) -> None:
    """Take note that a request was answered. Thread: zit-engine."""
