"""An open store: its folder, its threads, its connections, and how work reaches the right one.

One thread writes, on one connection. Everybody else reads through pools. When SQLite calls the index
malformed, or somebody deletes it under us, a new one takes its place and life goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ..errors import StoreError, ZitError
from ..setting_values import GB
from ..settings import Settings
from ..sqlite_files import is_malformed
from . import index, mending
from .database import IndexMalformedError, Pool, RowsDamagedError
from .desk import Desk, Workplace
from .dictionaries import Dictionaries
from .disk import Disk
from .healing import Damage
from .layout import FAN_OUT, Layout
from .memory import Memory
from .network_folders import network_file_system
from .owners import Owner
from .room import Caps
from .scribe import Score
from .searches import Searches
from .timekeeping import Timekeeper
from .uses import Uses
from .waiting import Waiting
from .writer import Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
"""How often use counts are written down: what a crash may cost of them."""
SWEEP_SECONDS = 60.0
"""How often stale entries are looked for."""
SEARCH_SECONDS = 86_400.0
"""How often the folders are searched for files that no row knows, without a crash as a reason."""


class Running:
    """What every door of a store stands on. Not opened twice at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        score: Score,
        clock: Callable[[], float] = time.time,
        count: Callable[[str], None] = lambda name: None,
        steady: Callable[[], float] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._settings = settings
        self._score = score
        self._clock = clock
        self._count = count
        self._steady = steady
        self._layout = Layout(settings.cache_dir / "results")
        self._disk = disk or Disk()
        self._memory = Memory(settings.memory_bytes)
        self._uses = Uses()
        self._searches = Searches()
        self._waiting: dict[str, Waiting] = {}
        self._queued = 0
        self._reported: set[str] = set()
        self._warned_of_network = False
        self._is_open = False
        self._process = os.getpid()
        self._door = threading.Lock()
        """Guards `_is_open`, `_queued` and `_waiting`: what is accepted is written before the end."""
        self._desk: Desk | None = None

    def open(self) -> None:
        """Open the store, made if it is not there, and finish what a crash cut short.

        Raises StoreVersionError if a newer version wrote it, StoreError if the folder cannot be used.
        """
        with store_errors:
            for folder in self._layout.folders:
                self._disk.make_folder(folder)
            self._warn_of_network()
            with contextlib.ExitStack() as undo:
                self._owner = Owner(self._layout.owners)
                undo.callback(self._owner.close)
                self._place = self._workplace()
                desk = Desk.set_up(self._place)
                undo.callback(desk.close)
                self._quick = Pool(self._layout.find_index, busy_seconds=0.0)
                self._readers = Pool(self._layout.find_index)
                self._claimers = Pool(self._layout.find_index, writing=True)
                with contextlib.suppress(IndexMalformedError), self._quick.lend():
                    pass  # opened now, so that the first look from an event loop does not wait for it
                undo.pop_all()
        self._desk = desk
        self._caps = desk.caps
        self._blobs = desk.blobs
        self._process = os.getpid()
        self._due_flush = time.monotonic() + FLUSH_SECONDS
        # After somebody's crash, files may lie about that no row knows.
        self._due_sweep = time.monotonic() + (0.0 if desk.after_a_crash else SWEEP_SECONDS)
        self._chores: Iterator[object] = iter(())
        self._writer = Writer(self._idle)
        self._started()
        self._writer.start()
        self._is_open = True

    def close(self) -> None:
        """Write everything that waits, and the use counts; then let go of all. Twice is fine."""
        if os.getpid() != self._process:
            return  # of a fork: the threads and locks are the parent's
        with self._door:
            if not self._is_open:
                return
            self._is_open = False
        try:
            with store_errors:
                self._writer.ask(lambda: self._at_desk(self._finish)).result()
        finally:
            self._writer.close()
            self._stopping()
            for pool in (self._quick, self._readers, self._claimers):
                pool.close()
            if self._desk is not None:
                self._desk.close()
            self._owner.close()
            self._memory.clear()

    def _started(self) -> None:
        """Make what needs an open index. Overridden by the doors."""

    def _stopping(self) -> None:
        """Let go of what `_started` made."""

    # How work reaches the index

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do some reading on this thread."""
        self._must_be_open()
        with store_errors:
            try:
                with self._readers.lend() as db:
                    return work(db)
            except IndexMalformedError as error:
                self._replace_later(error)
                self._writer.ask(lambda: None).result()
                with self._readers.lend() as db:
                    return work(db)

    def _write(self, work: Callable[[Desk], T]) -> T:
        """Do some writing on the writer's thread, after everything that was put before, and wait."""
        with self._door:
            self._must_be_open()
            answer = self._writer.ask(lambda: self._at_desk(work))
        with store_errors:
            return answer.result()

    def _put(self, work: Callable[[], None]) -> None:
        """Do some work on the writer's thread, and do not wait."""
        self._writer.put(work)

    def _at_desk(self, work: Callable[[Desk], T]) -> T:
        """Do some work on the index that is the store's now; if it turns out malformed, on a new one."""
        with store_errors:
            desk = self._desk
            if desk is None or not desk.opened.is_current():
                desk = self._set_up_again(None)
            try:
                return work(desk)
            except sqlite3.DatabaseError as error:
                if not is_malformed(error):
                    raise
                log.error("the index is malformed: %s", error)
                if not (isinstance(error, RowsDamagedError) and desk.mend()):
                    return work(self._set_up_again(desk.opened.path))
            try:
                return work(desk)
            except RowsDamagedError:  # it is no better
                return work(self._set_up_again(desk.opened.path))

    def _set_up_again(self, malformed: Path | None) -> Desk:
        if self._desk is not None:
            self._desk.close()
            self._desk = None  # if the next step fails, the next piece of work tries again
        self._memory.clear()
        self._desk = Desk.set_up(self._place, malformed)
        return self._desk

    def _replace_later(self, malformed: IndexMalformedError | None) -> None:
        """Have an index mended or replaced that a reader found malformed, or opened anew if it is gone."""

        def replace() -> None:
            path = None if malformed is None else malformed.path
            rows_only = malformed is not None and isinstance(malformed.__cause__, RowsDamagedError)
            if rows_only and self._at_desk(lambda desk: desk.opened.path != path or desk.mend()):
                return
            desk = self._desk
            if desk is None or not desk.opened.is_current() or path == desk.opened.path:
                with store_errors:
                    self._set_up_again(path)

        self._put(replace)

    def _report(self, damage: Damage) -> None:
        """Have damage healed that a reader met; once, however many readers meet it."""
        if damage.key in self._reported:
            return
        self._reported.add(damage.key)

        def heal() -> None:
            try:
                if self._at_desk(lambda desk: desk.healer.heal(damage)):
                    self._count("healed")
            finally:
                self._reported.discard(damage.key)

        self._put(heal)

    def _must_be_open(self) -> None:
        if os.getpid() != self._process:
            raise StoreError("this process was forked off an open store; open a store of its own")
        if not self._is_open:
            raise StoreError("the result store is not open")

    def _now(self) -> float:
        return self._place.time.now()

    # Upkeep, on the writer's thread

    def _idle(self) -> float:
        """Do one step of upkeep, and say in how many seconds the next one is wanted."""
        now = time.monotonic()
        if now >= self._due_flush:
            self._due_flush = now + FLUSH_SECONDS
            self._at_desk(self._flush_uses)
        if next(self._chores, None) is not None:
            return 0.005
        if now >= self._due_sweep:
            self._due_sweep = now + SWEEP_SECONDS
            self._chores = self._sweep_in_steps()
            return 0.0
        if self._at_desk(lambda desk: desk.upkeep.rescore() or desk.room.trim()):
            return 0.005
        return max(0.05, min(self._due_flush, self._due_sweep) - time.monotonic())

    def _sweep_in_steps(self) -> Iterator[int]:
        if self._at_desk(lambda desk: mending.broken(desk.db, mending.SMALL_RULES)):
            self._at_desk(lambda desk: desk.mend())
        crashed = self._at_desk(lambda desk: desk.after_a_crash or desk.upkeep.recover())
        self._at_desk(lambda desk: desk.save_time())
        while self._at_desk(lambda desk: desk.upkeep.remove_stale(self._place.time.surely())):
            yield 1
        self._at_desk(lambda desk: desk.upkeep.empty_old_quarantine())
        last = self._at_desk(lambda desk: desk.upkeep.last_swept())
        if crashed or not 0 <= self._place.time.wall() - last < SEARCH_SECONDS:
            for folder in FAN_OUT:
                self._at_desk(lambda desk, folder=folder: desk.upkeep.sweep_folder(folder))  # type: ignore[misc]
                yield 1
            for rule in mending.RULES:  # looked at one by one: writes get their turn in between
                if self._at_desk(lambda desk, rule=rule: mending.is_broken(desk.db, rule)):  # type: ignore[misc]
                    self._at_desk(lambda desk: desk.mend())
                yield 1
            self._at_desk(lambda desk: desk.note_searched())

    def _flush_uses(self, desk: Desk) -> None:
        taken = self._uses.take()
        # An entry that still waits to be written has no row to count in.
        waiting = {use.key for use in taken if use.key in self._waiting}
        self._uses.give_back([use for use in taken if use.key in waiting])
        uses = [use for use in taken if use.key not in waiting]
        if not uses:
            return
        try:
            desk.scribe.flush(uses)
        except BaseException:
            self._uses.give_back(uses)
            raise

    def _finish(self, desk: Desk) -> None:
        self._flush_uses(desk)
        desk.note_closed()

    # Putting the parts together

    def _workplace(self) -> Workplace:
        return Workplace(
            settings=self._settings,
            layout=self._layout,
            disk=self._disk,
            owner=self._owner,
            choose_caps=self._choose_caps,
            time=Timekeeper(self._clock, self._steady),
            dictionaries=Dictionaries(),
            namespace_ttls={},
            score=self._score,
            gone=self._memory.drop,
            count=self._count,
        )

    def _choose_caps(self, db: sqlite3.Connection) -> Caps:
        given = self._settings.max_bytes
        if given is None:
            # What is ours already counts as free: the cap must not shrink as the store grows.
            free = shutil.disk_usage(self._layout.root).free + index.totals(db).all_bytes
            given = min(10 * GB, free // 10)
        return Caps(given, self._settings.max_entries)

    def _warn_of_network(self) -> None:
        kind = network_file_system(self._layout.root)
        if kind is not None and not self._warned_of_network:  # opening may be tried again and again
            self._warned_of_network = True
            self._count("network_file_system")
            log.warning(
                "%s lies on a network file system (%s), whose locks an index cannot trust: choose a "
                "cache_dir on a local disk, and share results between machines through the shared tier",
                self._layout.root,
                kind,
            )


class _StoreErrors:
    """Lets trouble with disk and database leave this room as a StoreError.

    Any other than our own, too: nobody can list what a bad disk makes of what is read from it, and here it
    may cost a hit, never a picture.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ZitError):
            raise StoreError(f"the result store failed: {error}") from error


store_errors = _StoreErrors()
"""For a `with` statement."""
