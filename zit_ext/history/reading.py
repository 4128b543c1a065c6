"""What a chart asks of history: buckets of one width over some hours, and what there was in all."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..answered import EDGES
from .database import KEPT, HistoryFile
from .tally import COUNTS, SUMS

WIDTHS = (60, 300, 900, 3600, 21_600, 86_400)
"""Seconds of the buckets that are answered."""
MOST_BUCKETS = 340
"""Of one answer: a chart has no more room."""
MOST_HOURS = 24 * 730

_NUMBERS = (*COUNTS, *SUMS)


def _bins(outcome: str) -> list[int]:
    return [0] * (len(EDGES[outcome]) + 1)


@dataclass(slots=True)
class Moment:
    """One bucket of an answer."""

    at: int
    """When it begins; Unix seconds."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """By name: hit, miss, bypass, collapsed, saved_seconds, render_seconds, load_seconds."""
    reasons: dict[str, int] = field(default_factory=dict)
    hit_bins: list[int] = field(default_factory=lambda: _bins("hit"))
    miss_bins: list[int] = field(default_factory=lambda: _bins("miss"))
    bytes: int | None = None
    """What was stored at its end; None where nobody looked."""
    entries: int | None = None
    models: list[str] = field(default_factory=list)
    """Sources of the models that were held at some time in it."""


@dataclass(frozen=True, slots=True)
class Period:
    """Some hours of history; moments in which nothing was counted or seen are left out."""

    step: int
    moments: list[Moment]


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything that was counted since the file of history began, by all processes."""

    since: float | None
    """Unix seconds; None where there is no history."""
    numbers: Mapping[str, float]
    events: Mapping[str, int]
    """By the names of the store's counters and others. They are of all namespaces together."""

    @property
    def hit_rate(self) -> float | None:
        """Hits among the requests that were looked up; None while there were none."""
        hits, misses = self.numbers.get("hit", 0), self.numbers.get("miss", 0)
        return hits / (hits + misses) if hits + misses else None


NOTHING = Totals(None, {}, {})


def widths_for(hours: float) -> tuple[int, int]:
    """Return the seconds of a bucket for so many hours, and of those in the file that it is made of.

    >>> widths_for(1), widths_for(24), widths_for(27), widths_for(24 * 7), widths_for(24 * 365)
    ((60, 60), (300, 60), (900, 900), (3600, 900), (86400, 21600))
    """
    seconds = hours * 3600
    for step in WIDTHS:
        fits = [kept for kept, lasts in KEPT.items() if step % kept == 0 and seconds <= lasts]
        if fits and seconds / step <= MOST_BUCKETS:
            return step, max(fits)
    return WIDTHS[-1], max(KEPT)


def period(db: sqlite3.Connection, hours: float, namespace: str | None, now: float) -> Period:
    """Return the last hours; of one namespace, if one is named."""
    step, source = widths_for(hours)
    start = int((now - hours * 3600) // step) * step
    moments: dict[int, Moment] = defaultdict(lambda: Moment(0))
    where, values = "step = ? AND at >= ?", [source, start]
    of_space, space = ("", []) if namespace is None else (" AND namespace = ?", [namespace])

    def rows(question: str, *more: Any) -> Any:
        return db.execute(question.replace("SLOT", f"at / {step} * {step}"), (*values, *more))

    sums = ", ".join(f"sum({name})" for name in _NUMBERS)
    for slot, *numbers in rows(
        f"SELECT SLOT, {sums} FROM buckets WHERE {where}{of_space} GROUP BY 1", *space
    ):
        moments[slot].numbers = dict(zip(_NUMBERS, numbers, strict=True))
    for slot, kind, name, number in rows(
        f"SELECT SLOT, kind, name, sum(number) FROM parts WHERE {where}{of_space} GROUP BY 1, 2, 3", *space
    ):
        _add_part(moments[slot], kind, name, number)
    for slot, size, entries, _last in rows(
        f"SELECT SLOT, bytes, entries, max(at) FROM sizes WHERE {where} AND whole = ? AND namespace = ? "
        "GROUP BY 1",
        namespace is None,
        namespace or "",
    ):
        moments[slot].bytes, moments[slot].entries = size, entries
    for slot, name in rows(f"SELECT DISTINCT SLOT, source FROM held WHERE {where} ORDER BY 1, 2"):
        moments[slot].models.append(name)
    for slot, moment in moments.items():
        moment.at = slot
    return Period(step, [moments[slot] for slot in sorted(moments)])


def _add_part(moment: Moment, kind: str, name: str, number: int) -> None:
    if kind == "reason":
        moment.reasons[name] = number
        return
    bins = {"hit_latency": moment.hit_bins, "miss_latency": moment.miss_bins}.get(kind, [])
    if str(name).isdecimal() and int(name) < len(bins):  # another version may have had more
        bins[int(name)] += number


def totals_in(folder: Path, namespace: str | None = None) -> Totals:
    """Return what the history in this folder says in all; of one namespace, if one is named.

    Raises HistoryError.
    """
    with HistoryFile(folder).read() as db:
        return NOTHING if db is None else totals(db, namespace)


def totals(db: sqlite3.Connection, namespace: str | None) -> Totals:
    """Return what was counted in all; of one namespace, if one is named: then without events."""
    since = db.execute("SELECT value FROM facts WHERE name = 'since'").fetchone()
    numbers = db.execute(
        "SELECT name, number FROM totals WHERE whole = ? AND namespace = ?",
        (namespace is None, namespace or ""),
    )
    events = db.execute("SELECT name, number FROM events ORDER BY name") if namespace is None else ()
    sound = {name: number for name, number in numbers if isinstance(number, (int, float))}
    return Totals(None if since is None else since[0], sound, dict(events))
