"""One answered request, reduced to what is counted, listed and drawn. Holds no picture."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .records import NO_ENVIRONMENT, CacheMode, Outcome, Result
from .request_ids import request_id

_RENDERS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
EDGES: Mapping[str, Sequence[float]] = {
    "hit": (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
    "miss": _RENDERS,
    "bypass": _RENDERS,
}
"""Seconds at which one bin of latency ends and the next begins, by outcome; one more comes after the last."""

MISS_REASONS: Mapping[str, str] = {
    "absent": "no entry has every field of the request",
    "stale": "there was an entry, and its time was over",
    "refresh": "the request said that it wants a new render",
    "new_environment": "packages, driver or model are new here: nothing could be looked up",
    "not_hashed": "the weights were not hashed yet: nothing could be looked up",
}
"""Why a request misses. Bypasses have reasons of their own: policy's and plugins'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What became of one request. Times are seconds."""

    at: float
    """Unix seconds."""
    outcome: str
    """hit, miss or bypass."""
    reason: str | None
    """Why it was no hit, as one name to count by; None for a hit."""
    detail: str | None
    """The same for people, or why the result was not kept; None where there is nothing to say."""
    key: str | None
    tier: str
    """memory, disk or shared for a hit; render."""
    stored: bool
    collapsed: bool
    """A miss that shared another's run. Who only shared a look-up is a hit like any other."""
    seconds: float
    """From question to answer."""
    saved_seconds: float
    render_seconds: float
    """Of rendering alone, for this request: 0 for a hit, and where it shared another's run."""
    namespace: str
    model: str
    """Source of the model: may be a path."""
    prompt: str
    seed: int
    width: int
    height: int
    media_type: str
    blob: str | None
    """The name of the blob, where it is known already: of a hit."""
    request_id: str | None


def answered_of(result: Result, at: float, namespace: str = "default") -> Answered:
    """Return what is told of a result that was answered at that time.

    `namespace` is that of the settings, for which "default" stands in a request.
    """
    status, request = result.status, result.request
    collapsed = status.collapsed and status.outcome is Outcome.MISS
    return Answered(
        at=at,
        outcome=status.outcome.value,
        reason=reason_of(result),
        detail=status.detail,
        key=status.key,
        tier=status.tier.value,
        stored=status.stored,
        collapsed=collapsed,
        seconds=result.seconds,
        saved_seconds=result.saved_seconds,
        render_seconds=0.0 if collapsed else result.render_seconds,
        namespace=namespace if request.namespace == "default" else request.namespace,
        model=request.model.source,
        prompt=request.prompt,
        seed=request.seed,
        width=request.width,
        height=request.height,
        media_type=result.media_type,
        blob=result.blob_digest,
        request_id=request_id.get(),
    )


def reason_of(result: Result) -> str | None:
    """Return why a result is no hit, as one name; None if it is one."""
    status = result.status
    if status.outcome is Outcome.HIT:
        return None
    if status.outcome is Outcome.BYPASS:
        return status.reason or "unknown"
    if status.stale:
        return "stale"
    if result.request.cache is CacheMode.REFRESH:
        return "refresh"
    if status.detail == NO_ENVIRONMENT:
        return "new_environment"
    # Accepted without a key: the store waits for the digests of the weights.
    return "not_hashed" if status.stored and status.key is None else "absent"


def bin_of(outcome: str, seconds: float) -> int:
    """Return the number of the bin that a latency falls into.

    >>> bin_of("hit", 0.0), bin_of("hit", 0.001), bin_of("hit", 99)
    (0, 1, 11)
    """
    return bisect_left(EDGES[outcome], seconds)
