"""Writes history down every few seconds, on a thread of its own. Nobody waits for it; it raises nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..answered import Answered
from .database import HistoryError, HistoryFile
from .reading import NOTHING, Period, Totals, period, totals, widths_for
from .tally import Look, Tally

log = logging.getLogger(__name__)

WRITE_SECONDS = 5.0
"""How often what was counted is written down: what a crash may cost of it."""
LOOK_SECONDS = 60.0
"""How often store and weights are looked at."""
_END_SECONDS = 2.0


class Recorder:
    """The history of one cache folder, as one process writes and reads it."""

    def __init__(
        self,
        folder: Path,
        *,
        look: Callable[[], Look | None] = lambda: None,
        write_seconds: float = WRITE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`look` is asked once a minute, on the thread that writes."""
        self._file = HistoryFile(folder)
        self._look = look
        self._clock = clock
        self._write_seconds = write_seconds
        self._tally = Tally()
        self._wanted = threading.Event()
        self._written = threading.Condition()
        self._rounds = 0
        self._asked = 0
        self._closing = False
        self._said = False
        self._thread = threading.Thread(target=self._run, name="zit-history", daemon=True)
        self._thread.start()

    def answered(self, one: Answered) -> None:
        """Count an answer. Takes microseconds."""
        self._tally.answered(one)

    def event(self, name: str) -> None:
        """Count an event by its name. Takes microseconds."""
        self._tally.event(name)

    def loaded(self, namespace: str, seconds: float) -> None:
        """Count seconds that weights took to be read."""
        self._tally.loaded(self._clock(), namespace, seconds)

    def read(self, hours: float, namespace: str | None = None) -> Period:
        """Return the last hours, of all processes; empty where there is nothing to read. Blocks."""
        return self.overview(hours, namespace)[0]

    def totals(self, namespace: str | None = None) -> Totals:
        """Return what all processes counted in all; empty where there is nothing to read. Blocks."""
        self.flush()
        try:
            with self._file.read() as db:
                return NOTHING if db is None else totals(db, namespace)
        except Exception as error:  # of damaged rows nobody can list what they hold
            self._complain(error)
            return NOTHING

    def overview(self, hours: float, namespace: str | None = None) -> tuple[Period, Totals]:
        """Return the last hours and what was counted in all, as of one moment. Blocks."""
        found, counted = Period(widths_for(hours)[0], []), NOTHING
        self.flush()
        try:
            with self._file.read() as db:
                if db is not None:
                    try:
                        found = period(db, hours, namespace, self._clock())
                    finally:  # what is damaged of the one says nothing of the other
                        counted = totals(db, namespace)
        except Exception as error:
            self._complain(error)
        return found, counted

    def now(self) -> float:
        """Return the time that history goes by; Unix seconds."""
        return self._clock()

    def flush(self, seconds: float = 1.0) -> bool:
        """Have what was counted up to now written; tell whether it was tried in so many seconds."""
        with self._written:
            if self._closing:
                return False
            self._asked += 1
            mine = self._asked
            self._wanted.set()
            return self._written.wait_for(lambda: self._rounds >= mine, seconds)

    def close(self) -> None:
        """Write what was counted, if that is quickly done, and end. Twice is fine."""
        self._closing = True
        self._wanted.set()
        self._thread.join(_END_SECONDS)

    # On the thread that writes

    def _run(self) -> None:
        due = time.monotonic() + self._write_seconds  # not at once: most programs are gone by then
        while True:
            self._wanted.wait(self._write_seconds)
            self._wanted.clear()
            closing, asked = self._closing, self._asked
            if not closing and time.monotonic() >= due:
                due = time.monotonic() + LOOK_SECONDS
                self.look_now()
            written = self._write()
            deadline = time.monotonic() + _END_SECONDS / 2
            while closing and not written and time.monotonic() < deadline:
                time.sleep(0.05)  # another process makes the file just now
                written = self._write()
            with self._written:
                self._rounds = asked
                self._written.notify_all()
            if closing:
                self._file.close()
                return

    def look_now(self) -> None:
        """Look at store and weights, as it is done every minute."""
        try:
            seen = self._look()
        except Exception as error:
            log.debug("nothing was seen for history: %s", error)
            return
        if seen is not None:
            self._tally.saw(seen)

    def _write(self) -> bool:
        """Write what was counted; tell whether nothing is left that another try could write."""
        counted = self._tally.take()
        if not counted:
            return True
        try:
            self._file.add(counted, self._clock())
        except HistoryError as error:
            self._tally.give_back(counted)
            self._complain(error)
            return False
        except Exception as error:  # nothing that will be better the next time: it is forgotten
            self._complain(error)
            return True
        self._said = False
        return True

    def _complain(self, error: Exception) -> None:
        # Once, and not every five seconds.
        if not self._said:
            log.warning("%s", error)
        self._said = True
