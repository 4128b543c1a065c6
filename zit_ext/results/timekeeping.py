"""What time it is, for a store whose machine's clock may be set back or leap ahead.

The wall clock says how old an entry is, across processes and reboots; the steady clock notices when
it was set. Two rules, and they lean to the safe side each:

- An answer is stale if the wall clock says so, or if it would say so had nobody set it back.
- An entry is thrown away for its age only when both agree: what a leap ahead made stale is not
  served, but it waits for an hour whether the leap was a mistake.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TOLERANCE = 2.0
"""Seconds by which the wall clock may be corrected without being noticed."""
DOUBT_SECONDS = 3600.0
_SENSIBLE = 300 * 366 * 86_400.0


class Reading(NamedTuple):
    """The state of a store's time, as it is written down for the next process."""

    wall: float
    steady: float
    drift: float
    """By how much the wall clock was set ahead (or back, below zero) in all."""
    boot: str


class Timekeeper:
    """Reads both clocks. Any thread may ask."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        boot: str | None = None,
    ) -> None:
        # A clock of the caller's own is taken at its word.
        self._steady = steady or (time.monotonic if clock is time.time else clock)
        self._clock = clock
        self._boot = _boot_id() if boot is None else boot
        self._wall, self._at = clock(), self._steady()
        self._drift = 0.0
        self._doubt_until = self._at
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the time by which freshness is judged: never earlier than it really is."""
        return self.moment()[1]

    def moment(self) -> tuple[float, float]:
        """Return `wall` and `now` of one moment."""
        wall, drift = self._look()
        return wall, wall - min(drift, 0.0)

    def surely(self) -> float:
        """Return the time by which entries may be thrown away: never later than it really is."""
        wall, drift = self._look()
        return wall - max(drift, 0.0)

    def wall(self) -> float:
        """Return what the clock on the wall says, for people."""
        return self._look()[0]

    def reading(self) -> Reading:
        """Return what the next process has to know."""
        with self._lock:
            self._observe()
            return Reading(self._wall, self._at, self._drift, self._boot)

    def resume(self, last: Reading) -> None:
        """Go on from what the last process wrote down; from here, if that makes no sense."""
        if not all(_is_time(each) for each in (last.wall, last.steady, last.drift)):
            return
        with self._lock:
            self._observe()
            if last.boot == self._boot and last.steady <= self._at:
                self._drift = last.drift
                self._jumped(self._wall - (last.wall + self._at - last.steady))
            else:
                # Another boot: nobody counted the time between, except that it did not run backwards.
                self._drift = min(last.drift, 0.0) + min(self._wall - last.wall, 0.0)

    def _look(self) -> tuple[float, float]:
        with self._lock:
            self._observe()
            return self._wall, self._drift

    def _observe(self) -> None:
        wall, at = self._clock(), self._steady()
        expected = self._wall + (at - self._at)
        self._wall, self._at = wall, at
        self._jumped(wall - expected)
        if self._drift > 0 and at >= self._doubt_until:
            self._drift = 0.0

    def _jumped(self, seconds: float) -> None:
        if abs(seconds) > TOLERANCE:
            self._drift += seconds
            if seconds > 0:
                self._doubt_until = self._at + DOUBT_SECONDS


def _is_time(value: object) -> bool:
    """Tell whether this can be a reading of a clock, and not what a bad disk made of one."""
    return isinstance(value, (int, float)) and -_SENSIBLE < value < _SENSIBLE


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
