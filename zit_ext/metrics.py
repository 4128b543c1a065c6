"""Counts what the engine did. Numbers in, numbers out; where they are shown is not its business.

Whoever wants to know of each answer (history, lists of the latest, streams of events) is told here too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .answered import EDGES, Answered, answered_of, bin_of
from .records import Outcome, Result

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was counted up to now."""

    requests: Mapping[str, int]
    """By outcome: hit, miss, bypass."""
    bypass_reasons: Mapping[str, int]
    miss_reasons: Mapping[str, int]
    seconds: Mapping[str, float]
    """Spent answering, by outcome."""
    latencies: Mapping[str, Sequence[int]]
    """By outcome: how many answers fell between the edges of `answered.EDGES`; the last bin is open."""
    tiers: Mapping[str, int]
    """Hits by where they were found."""
    events: Mapping[str, int]
    """Everything else that has a name: corrupt, evicted_by_bytes, plugin_failed, ..."""
    collapsed: int
    stored: int
    saved_seconds: float
    """Of rendering, that hits and shared renders made unnecessary."""
    render_seconds: float
    """Of rendering, that was done."""

    @property
    def hit_rate(self) -> float:
        """Hits among the requests that were looked up."""
        looked_up = self.requests.get("hit", 0) + self.requests.get("miss", 0)
        return self.requests.get("hit", 0) / looked_up if looked_up else 0.0


@dataclass(slots=True)
class Metrics:
    """The counters of one engine. Any thread may count: store and holder do so from their own."""

    namespace: str = "default"
    """Whose requests are those that name no namespace."""
    _requests: Counter[str] = field(default_factory=Counter)
    _bypass_reasons: Counter[str] = field(default_factory=Counter)
    _miss_reasons: Counter[str] = field(default_factory=Counter)
    _seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _latencies: dict[str, list[int]] = field(
        default_factory=lambda: {outcome: [0] * (len(edges) + 1) for outcome, edges in EDGES.items()}
    )
    _tiers: Counter[str] = field(default_factory=Counter)
    _events: Counter[str] = field(default_factory=Counter)
    _collapsed: int = 0
    _stored: int = 0
    _saved_seconds: float = 0.0
    _render_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _on_answer: tuple[Callable[[Answered], object], ...] = ()
    _on_event: tuple[Callable[[str], object], ...] = ()

    def tell(
        self,
        answer: Callable[[Answered], object] | None = None,
        event: Callable[[str], object] | None = None,
    ) -> None:
        """Tell these of each answer and each event from now on, on whatever thread counts. Be quick."""
        with self._lock:
            self._on_answer += (answer,) if answer is not None else ()
            self._on_event += (event,) if event is not None else ()

    def answered(self, result: Result) -> None:
        """Count one answered request."""
        one = answered_of(result, time.time(), self.namespace)
        with self._lock:
            self._count(one)
        for told in self._on_answer:
            _quietly(told, one)

    def _count(self, one: Answered) -> None:
        outcome = one.outcome
        self._requests[outcome] += 1
        self._seconds[outcome] += one.seconds
        self._latencies[outcome][bin_of(outcome, one.seconds)] += 1
        self._collapsed += one.collapsed
        self._stored += one.stored
        self._saved_seconds += one.saved_seconds
        self._render_seconds += one.render_seconds
        if outcome == Outcome.HIT.value:
            self._tiers[one.tier] += 1
        elif one.reason is not None:
            reasons = self._miss_reasons if outcome == Outcome.MISS.value else self._bypass_reasons
            reasons[one.reason] += 1

    def event(self, name: str) -> None:
        """Count something that has a name."""
        with self._lock:
            self._events[name] += 1
        for told in self._on_event:
            _quietly(told, name)

    def snapshot(self) -> Snapshot:
        """Return what was counted up to now."""
        with self._lock:
            return Snapshot(
                requests=dict(self._requests),
                bypass_reasons=dict(self._bypass_reasons),
                miss_reasons=dict(self._miss_reasons),
                seconds=dict(self._seconds),
                latencies={outcome: tuple(counts) for outcome, counts in self._latencies.items()},
                tiers=dict(self._tiers),
                events=dict(self._events),
                collapsed=self._collapsed,
                stored=self._stored,
                saved_seconds=self._saved_seconds,
                render_seconds=self._render_seconds,
            )


def _quietly(told: Callable[[T], object], what: T) -> None:
    # Whoever looks on may cost a line in a chart, and never an answer.
    try:
        told(what)
    except Exception:
        log.exception("what was counted could not be told to %r", told)
