"""Counts what the engine did. Numbers in, numbers out; where they are shown is not its business."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from .records import Outcome, Result


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was counted up to now."""

    requests: Mapping[str, int]
    """By outcome: hit, miss, bypass."""
    bypass_reasons: Mapping[str, int]
    seconds: Mapping[str, float]
    """Spent answering, by outcome."""
    tiers: Mapping[str, int]
    """Hits by where they were found."""
    events: Mapping[str, int]
    """Everything else that has a name: corrupt, evicted_by_bytes, plugin_failed, ..."""
    collapsed: int
    stored: int
    saved_seconds: float
    """Of rendering, that hits and shared renders made unnecessary."""

    @property
    def hit_rate(self) -> float:
        """Hits among the requests that were looked up."""
        looked_up = self.requests.get("hit", 0) + self.requests.get("miss", 0)
        return self.requests.get("hit", 0) / looked_up if looked_up else 0.0


@dataclass(slots=True)
class Metrics:
    """The counters of one engine. Any thread may count: store and holder do so from their own."""

    _requests: Counter[str] = field(default_factory=Counter)
    _bypass_reasons: Counter[str] = field(default_factory=Counter)
    _seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _tiers: Counter[str] = field(default_factory=Counter)
    _events: Counter[str] = field(default_factory=Counter)
    _collapsed: int = 0
    _stored: int = 0
    _saved_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, result: Result) -> None:
        """Count one answered request."""
        status = result.status
        with self._lock:
            self._requests[status.outcome.value] += 1
            self._seconds[status.outcome.value] += result.seconds
            self._collapsed += status.collapsed
            self._stored += status.stored
            self._saved_seconds += result.saved_seconds
            if status.outcome is Outcome.HIT:
                self._tiers[status.tier.value] += 1
            if status.reason is not None:
                self._bypass_reasons[status.reason] += 1

    def event(self, name: str) -> None:
        """Count something that has a name."""
        with self._lock:
            self._events[name] += 1

    def snapshot(self) -> Snapshot:
        """Return what was counted up to now."""
        with self._lock:
            return Snapshot(
                requests=dict(self._requests),
                bypass_reasons=dict(self._bypass_reasons),
                seconds=dict(self._seconds),
                tiers=dict(self._tiers),
                events=dict(self._events),
                collapsed=self._collapsed,
                stored=self._stored,
                saved_seconds=self._saved_seconds,
            )
