"""Everything that works on one open index, put together for the writer's thread."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..settings import Settings
from ..sqlite_files import is_malformed
from . import index, mending
from .blobs import Blobs
from .database import SYNCHRONOUS, RowsDamagedError, transaction
from .dictionaries import Dictionaries
from .disk import Disk
from .healing import Healer
from .layout import Layout
from .opening import Opened, open_index
from .owners import Owner
from .room import Caps, Room
from .scribe import Score, Scribe
from .timekeeping import Reading, Timekeeper
from .upkeep import Upkeep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What outlives an index that has to be replaced."""

    settings: Settings
    layout: Layout
    disk: Disk
    owner: Owner
    choose_caps: Callable[[sqlite3.Connection], Caps]
    time: Timekeeper
    dictionaries: Dictionaries
    namespace_ttls: dict[str, float | None]
    """Times to live of namespaces, as far as this process has heard."""
    score: Score
    gone: Callable[[str], None]
    count: Callable[[str], None]


class Desk:
    """The workers of one index. All of them belong to the writer's thread."""

    def __init__(self, place: Workplace, opened: Opened) -> None:
        self.opened = opened
        self.db = opened.db
        self.place = place
        self.caps = place.choose_caps(opened.db)
        self.after_a_crash = False
        """Whoever had it open before has died; nobody searched the folders since."""
        self.blobs = blobs_of(place)
        self.room = Room(
            self.db,
            self.blobs,
            self.caps,
            owner=place.owner.token,
            surely=place.time.surely,
            gone=place.gone,
            count=place.count,
        )
        self.scribe = Scribe(
            self.db,
            self.blobs,
            self.room,
            place.dictionaries,
            score=place.score,
            default_ttl=place.settings.ttl_seconds,
            sliding_ttl=place.settings.sliding_ttl,
            store_prompts=place.settings.store_prompts,
            count=place.count,
        )
        self.healer = Healer(self.db, self.blobs, place.dictionaries, wall=place.time.wall, gone=place.gone)
        self.upkeep = Upkeep(
            self.db,
            place.layout,
            self.blobs,
            self.room,
            self.scribe,
            place.owner,
            wall=place.time.wall,
            gone=place.gone,
            count=place.count,
        )

    @classmethod
    def set_up(cls, place: Workplace, malformed: Path | None = None) -> Desk:
        """Open the index and make it right. Raises StoreVersionError, OSError and sqlite3.Error.

        An index that opens, and turns out to be malformed while it is made right, is set aside as well.
        """
        opened = cls._open(place, malformed)
        try:
            return cls._made_right(place, opened)
        except sqlite3.DatabaseError as error:
            if not is_malformed(error):
                raise
            log.error("the index is malformed (%s); it is set aside, and an empty one takes its place", error)
            return cls._made_right(place, cls._open(place, opened.path))

    @classmethod
    def _open(cls, place: Workplace, malformed: Path | None) -> Opened:
        return open_index(
            place.layout,
            place.disk,
            durability=place.settings.durability,
            malformed=malformed,
        )

    @classmethod
    def _made_right(cls, place: Workplace, opened: Opened) -> Desk:
        try:
            if opened.was_malformed:
                place.count("index_malformed")
            if mending.broken(opened.db, mending.SMALL_RULES):  # even the caps are chosen by these
                with transaction(opened.db):
                    mending.mend(opened.db)
                place.count("mended")
            desk = cls(place, opened)
            try:
                desk._make_right()
            except RowsDamagedError:
                if not desk.mend():
                    raise
                desk._make_right()
            return desk
        except BaseException:
            opened.db.close()
            raise

    def _make_right(self) -> None:
        place, db = self.place, self.db
        rebooted = self._resume_time()
        others = place.owner.others()
        was_clean = bool(index.of_totals(db, "clean"))
        self.after_a_crash = self.upkeep.recover() or not (was_clean or others)
        self._note_open()
        place.namespace_ttls.update((each.name, each.ttl_seconds) for each in index.all_namespaces(db))
        self.upkeep.adopt_policy(place.settings.eviction)
        # A new index knows no file; after a power cut, files may be there that no row remembers.
        if self.opened.is_new or self.opened.was_malformed or (self.after_a_crash and rebooted):
            self.upkeep.sweep()
            self.after_a_crash = False

    def _note_open(self) -> None:
        """Write down, to last, that somebody is at work here: a crash must not look like a clean end."""
        self.db.execute("PRAGMA synchronous = FULL")
        self.save_time(clean=False)
        self.db.execute(f"PRAGMA synchronous = {SYNCHRONOUS[self.place.settings.durability]}")

    def note_closed(self) -> None:
        """Write down that the work ended well, if nobody else is at work here."""
        self.save_time(clean=not self.place.owner.others())

    def save_time(self, *, clean: bool = False) -> None:
        """Write down where the store's time stands."""
        reading = self.place.time.reading()
        with transaction(self.db):
            self.db.execute(
                "UPDATE totals SET clean = ?, wall = ?, steady = ?, drift = ?, boot = ?",
                (clean, reading.wall, reading.steady, reading.drift, reading.boot),
            )

    def note_searched(self) -> None:
        """Write down that the folders were searched for files that no row knows."""
        self.after_a_crash = False
        self.upkeep.note_swept()

    def mend(self) -> bool:
        """Set right what the index says about itself; tell whether anything was wrong."""
        with transaction(self.db):
            changed = mending.mend(self.db)
        if changed:
            log.warning("%d rows of the index were wrong, and are set right", changed)
            self.place.count("mended")
            self.upkeep.adopt_policy(self.place.settings.eviction)
            self.room.reap()
        return changed > 0

    def close(self) -> None:
        self.db.close()

    def _resume_time(self) -> bool:
        """Go on from where the last process saw the clocks; tell whether the machine may have restarted."""
        wall, steady, drift, boot = self.db.execute("SELECT wall, steady, drift, boot FROM totals").fetchone()
        if wall is None:
            return False
        self.place.time.resume(Reading(wall, steady, drift, boot))
        return not boot or boot != self.place.time.reading().boot


def blobs_of(place: Workplace) -> Blobs:
    return Blobs(place.layout, place.disk, durability=place.settings.durability, owner=place.owner.token)


def is_out_of_space(error: BaseException) -> bool:
    """Tell whether a write failed for want of space, and not for anything else."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.OperationalError) and "full" in str(error)
