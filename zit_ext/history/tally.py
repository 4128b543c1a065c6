"""What one process counted and did not write down yet, by the minute and namespace."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..answered import Answered, bin_of

MINUTE = 60
MOST_BUCKETS = 2_000
"""Buckets that wait to be written, where nothing can be written; the oldest are forgotten first."""
_LONGEST_NAME = 100

COUNTS = ("hit", "miss", "bypass", "collapsed")
SUMS = ("saved_seconds", "render_seconds", "load_seconds")


@dataclass(slots=True)
class Bucket:
    """One minute of one namespace."""

    numbers: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By the names in COUNTS and SUMS."""
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and name: ("reason", "stale"), ("hit_latency", "3") for the fourth bin of hits' latency."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is stored."""

    bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment."""

    at: float
    sizes: Mapping[str | None, Size]
    """By namespace; None is the whole store."""
    held: tuple[str, ...] = ()
    """Sources of the models that this process holds."""


@dataclass(slots=True)
class Counted:
    """Everything that is to be added to the file in one go."""

    buckets: dict[tuple[int, str], Bucket] = field(default_factory=dict)
    """By the minute's Unix time and namespace."""
    events: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.buckets or self.events or self.looks)


class Tally:
    """Gathers what is counted. Any thread may add; a few microseconds each."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._counted = Counted()
        self._lock = threading.Lock()

    def answered(self, one: Answered) -> None:
        with self._lock:
            bucket = self._bucket(one.at, one.namespace)
            numbers = bucket.numbers
            numbers[one.outcome] += 1
            numbers["collapsed"] += one.collapsed
            numbers["saved_seconds"] += one.saved_seconds
            numbers["render_seconds"] += one.render_seconds
            if one.reason is not None:
                bucket.parts["reason", one.reason[:_LONGEST_NAME]] += 1
            if one.outcome in ("hit", "miss"):
                bucket.parts[f"{one.outcome}_latency", str(bin_of(one.outcome, one.seconds))] += 1

    def loaded(self, at: float, namespace: str, seconds: float) -> None:
        """Count seconds that weights took to be read."""
        with self._lock:
            self._bucket(at, namespace).numbers["load_seconds"] += seconds

    def event(self, name: str) -> None:
        with self._lock:
            self._counted.events[name[:_LONGEST_NAME]] += 1

    def saw(self, look: Look) -> None:
        with self._lock:
            self._counted.looks.append(look)
            del self._counted.looks[: -self._most]

    def take(self) -> Counted:
        """Return what was counted, and begin anew."""
        with self._lock:
            counted, self._counted = self._counted, Counted()
        return counted

    def give_back(self, counted: Counted) -> None:
        """Take back what could not be written, as far as there is room for it."""
        with self._lock:
            newer, self._counted = self._counted, counted
            for at, bucket in newer.buckets.items():
                mine = self._counted.buckets.setdefault(at, Bucket())
                for name, number in bucket.numbers.items():
                    mine.numbers[name] += number
                mine.parts.update(bucket.parts)
            self._counted.events.update(newer.events)
            self._counted.looks += newer.looks
            del self._counted.looks[: -self._most]
            self._forget_the_oldest()

    def _bucket(self, at: float, namespace: str) -> Bucket:
        minute = int(at // MINUTE) * MINUTE
        found = self._counted.buckets.get((minute, namespace))
        if found is None:
            found = self._counted.buckets[minute, namespace] = Bucket()
            self._forget_the_oldest()
        return found

    def _forget_the_oldest(self) -> None:
        buckets = self._counted.buckets
        while len(buckets) > self._most:
            del buckets[min(buckets)]
