"""The result store: find an answer, keep an answer, render it once. The doors to the room of results.

Blocking, and callable from any thread. Only StoreErrors leave here, and never doubtful bytes. `keep`
returns at once: encoding, digesting and writing happen behind the caller's back, on the one thread
that writes; look-ups read through connections of their own and never wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from ..codecs import CodecError, Pixels
from ..errors import PluginError, StoreError, StoreFullError
from ..records import Content, Fingerprint
from ..settings import GB, Settings
from .administration import Administration
from .claims import Busy, Claim, Claims
from .database import IndexMalformedError, Pool, is_malformed
from .desk import Desk, Workplace, blobs_of, is_out_of_space
from .dictionaries import Dictionaries
from .disk import Disk
from .healing import Damage
from .layout import Layout
from .lookup import Found, Lookup
from .memory import Memory
from .owners import Owner
from .room import Caps
from .scribe import Score
from .timekeeping import Timekeeper
from .usage import Usage, measure
from .uses import Uses
from .waiting import Waiting
from .writer import Writer

__all__ = ["Busy", "Claim", "Found", "ResultStore", "Usage"]

T = TypeVar("T")
log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
"""How often use counts are written down: what a crash may cost of them."""
SWEEP_SECONDS = 60.0
"""How often stale entries are looked for."""


class ResultStore(Administration):
    """Answers by key, shared by every process that opens the same folder."""

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
        self._disk = disk or Disk()
        self._layout = Layout(settings.cache_dir / "results")
        self._waiting: dict[str, Waiting] = {}
        self._queued = 0
        self._memory = Memory(settings.memory_bytes)
        self._uses = Uses()
        self._reported: set[str] = set()
        self._is_open = False

    # Opening and closing

    def open(self) -> None:
        """Open the store, made if it is not there, and finish what a crash cut short.

        Raises StoreVersionError if a newer version wrote it, StoreError if the folder cannot be used.
        """
        with _store_errors():
            for folder in self._layout.folders:
                self._disk.make_folder(folder)
            self._owner = Owner(self._layout.owners)
            try:
                self._place = self._workplace()
                self._desk = Desk.set_up(self._place)
            except BaseException:
                self._owner.close()
                raise
        self._caps = self._place.caps
        self._pools = (
            Pool(self._layout.index, busy_seconds=0.0),
            Pool(self._layout.index),
            Pool(self._layout.index, writing=True),
        )
        self._lookup = self._make_lookup()
        self._claims = Claims(
            self._pools[2],
            owner=self._owner.token,
            is_alive=self._owner.is_alive,
            lease_seconds=self._settings.claim_seconds,
            clock=self._clock,
        )
        self._due_flush = time.monotonic() + FLUSH_SECONDS
        self._due_sweep = time.monotonic() + SWEEP_SECONDS
        self._stale_before: float | None = None
        self._folders_left: list[str] = []
        self._writer = Writer(self._idle)
        self._writer.start()
        self._is_open = True

    def close(self) -> None:
        """Write everything that waits, and the use counts; then let go of all. Twice is fine."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            with _store_errors():
                self._writer.ask(lambda: self._at_desk(self._finish)).result()
        finally:
            self._writer.close()
            with contextlib.suppress(OSError, sqlite3.Error, StoreError):
                self._claims.close()
            for pool in self._pools:
                pool.close()
            self._desk.close()
            self._owner.close()
            self._memory.clear()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything kept so far is written, and the use counts; tell whether it is.

        `timeout` is in seconds; None waits for ever.
        """
        self._must_be_open()
        with _store_errors():
            try:
                self._writer.ask(lambda: self._at_desk(self._flush_uses)).result(timeout)
            except FutureTimeoutError:
                return False
            return True

    # Looking

    def peek(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer if it is at hand in memory; quick enough for an event loop."""
        self._must_be_open()
        try:
            return self._lookup.peek(fingerprint)
        except (OSError, StoreError):
            return None  # `find` will meet the same trouble, and say so

    def find(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer kept for this, if it is there, fresh and whole."""
        self._must_be_open()
        with _store_errors():
            try:
                return self._lookup.find(fingerprint)
            except IndexMalformedError as error:
                self._replace_later(error.inode)
            except FileNotFoundError:
                self._replace_later(None)  # somebody deleted the folder under us
            return None

    def was_stale(self, fingerprint: Fingerprint) -> bool:
        """Tell whether the last `find` of this met an answer whose time was over."""
        self._must_be_open()
        return self._lookup.was_stale(fingerprint)

    # Keeping

    def keep(
        self,
        fingerprint: Fingerprint,
        content: Content,
        *,
        namespace: str,
        cost: float,
        ttl_seconds: float | None,
        model: str = "",
        prompt: str | None = None,
        pinned: bool = False,
    ) -> None:
        """Accept an answer; it is found from now on, and written behind the caller's back.

        `cost` is in seconds of rendering; a `ttl_seconds` of None is the namespace's or the setting, 0
        is for ever. Raises StoreFullError if too many results wait, or this one can never fit.
        """
        self._must_be_open()
        size = len(content.data)
        if self._queued >= self._settings.write_queue:
            self._count("queue_full")
            raise StoreFullError(size, f"{self._queued} results wait to be written already")
        # Pixels shrink when they are encoded: the writer will see by how much.
        if not isinstance(content, Pixels) and 0 < self._caps.max_bytes < size:
            self._count("larger_than_cap")
            raise StoreFullError(size, f"the store holds {self._caps.max_bytes:,} bytes in all")
        waiting = Waiting(
            fingerprint,
            content,
            namespace=namespace,
            cost=cost,
            ttl_seconds=ttl_seconds,
            model=model,
            prompt=prompt,
            pinned=pinned,
            created_at=self._place.time.wall(),
            now=self._place.time.now(),
        )
        self._queued += 1
        self._waiting[fingerprint.key] = waiting
        self._writer.put(lambda: self._write_down(waiting))

    # Rendering once

    def try_claim(self, fingerprint: Fingerprint) -> Claim | Busy | Found:
        """Return the right to render this, the answer that came meanwhile, or who is at it. Never waits."""
        self._must_be_open()
        with _store_errors():
            return self._claims.take(fingerprint.key, lambda: self.find(fingerprint))

    def release(self, claim: Claim) -> None:
        """Let go of a claim, once everything that was kept before is written. Returns at once."""
        self._must_be_open()
        self._writer.put(lambda: self._claims.release(claim))

    # On the writer's thread

    def _write_down(self, waiting: Waiting) -> None:
        key = waiting.fingerprint.key
        try:
            ready = waiting.get_ready()
            held = self._at_desk(lambda desk: desk.scribe.write(waiting, ready))
            self._memory.put(key, held)
        except (CodecError, StoreError, PluginError) as error:
            self._dropped(error)
        finally:
            self._queued -= 1
            if self._waiting.get(key) is waiting:
                del self._waiting[key]

    def _dropped(self, error: Exception) -> None:
        cause = error.__cause__ or error
        if isinstance(error, CodecError):
            self._count("undecodable")
        elif isinstance(error, PluginError):
            self._count("not_scored")
        elif is_out_of_space(cause):
            self._count("disk_full")
        elif not isinstance(error, StoreFullError):
            self._count("write_failed")
        self._count("dropped")
        log.warning("a result was answered, but is not kept: %s", error)

    def _at_desk(self, work: Callable[[Desk], T]) -> T:
        """Do some work on the index that is the store's now; if it turns out malformed, on a new one."""
        with _store_errors():
            if not self._desk.opened.is_current(self._layout.index):
                self._set_up_again(None)
            try:
                return work(self._desk)
            except sqlite3.DatabaseError as error:
                if not is_malformed(error):
                    raise
                log.error("the index is malformed: %s", error)
                self._set_up_again(self._desk.opened.inode)
                return work(self._desk)

    def _set_up_again(self, malformed_inode: int | None) -> None:
        self._desk.close()
        self._memory.clear()
        self._desk = Desk.set_up(self._place, malformed_inode)

    def _replace_later(self, malformed_inode: int | None) -> None:
        def replace() -> None:
            if malformed_inode is None or malformed_inode == self._desk.opened.inode:
                with _store_errors():
                    self._set_up_again(malformed_inode)

        self._writer.put(replace)

    def _report(self, damage: Damage) -> None:
        if damage.key in self._reported:
            return
        self._reported.add(damage.key)

        def heal() -> None:
            try:
                if self._at_desk(lambda desk: desk.healer.heal(damage)):
                    self._count("healed")
            finally:
                self._reported.discard(damage.key)

        self._writer.put(heal)

    def _flush_uses(self, desk: Desk) -> None:
        uses = self._uses.take()
        if not uses:
            return
        try:
            desk.scribe.flush(uses)
        except BaseException:
            self._uses.give_back(uses)
            raise

    def _finish(self, desk: Desk) -> None:
        self._flush_uses(desk)
        desk.save_time()

    def _idle(self) -> float:
        """Do one step of upkeep, and say in how many seconds the next one is wanted."""
        now = time.monotonic()
        if now >= self._due_flush:
            self._due_flush = now + FLUSH_SECONDS
            self._at_desk(self._flush_uses)
            return 0.05
        if self._at_desk(lambda desk: desk.upkeep.rescore() or desk.room.trim()):
            return 0.01
        if now >= self._due_sweep:
            self._due_sweep = now + SWEEP_SECONDS
            self._at_desk(self._sweep)
        return max(0.05, min(self._due_flush, self._due_sweep) - time.monotonic())

    def _sweep(self, desk: Desk) -> None:
        desk.save_time()
        desk.upkeep.recover()
        while desk.upkeep.remove_stale(self._place.time.surely()):
            pass

    # Putting the parts together

    def _workplace(self) -> Workplace:
        return Workplace(
            settings=self._settings,
            layout=self._layout,
            disk=self._disk,
            owner=self._owner,
            caps=self._choose_caps(),
            time=Timekeeper(self._clock, self._steady),
            dictionaries=Dictionaries(),
            score=self._score,
            gone=self._memory.drop,
            count=self._count,
        )

    def _choose_caps(self) -> Caps:
        given = self._settings.max_bytes
        if given is None:
            given = min(10 * GB, shutil.disk_usage(self._layout.root).free // 10)
        return Caps(given, self._settings.max_entries)

    def _make_lookup(self) -> Lookup:
        return Lookup(
            quick=self._pools[0],
            readers=self._pools[1],
            blobs=blobs_of(self._place),
            memory=self._memory,
            uses=self._uses,
            waiting=self._waiting,
            dictionaries=self._place.dictionaries,
            time=self._place.time,
            default_ttl=self._settings.ttl_seconds,
            sliding_ttl=self._settings.sliding_ttl,
            count=self._count,
            report=self._report,
        )

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise StoreError("the result store is not open")

    def _usage(self, db: sqlite3.Connection, namespace: str | None) -> Usage:
        return measure(
            db,
            namespace,
            max_bytes=self._caps.max_bytes,
            max_entries=self._caps.max_entries,
            now=self._place.time.now(),
            waiting=self._queued,
            memory_bytes=self._memory.bytes,
        )

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._must_be_open()
        with _store_errors(), self._pools[1].lend() as db:
            return work(db)

    def _write(self, work: Callable[[Desk], T]) -> T:
        self._must_be_open()
        with _store_errors():
            return self._writer.ask(lambda: self._at_desk(work)).result()


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Let trouble with disk and database leave this room as a StoreError."""
    try:
        yield
    except (OSError, sqlite3.Error, MemoryError) as error:
        raise StoreError(f"the result store failed: {error}") from error
