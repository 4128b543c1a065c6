"""What people do with a store: list, explain, remove, pin, limit, check, ship. For the CLI and dashboards.

Reading happens on the caller's thread, writing on the writer's, after everything that was kept before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BlobCorruptError
from ..records import Blob, Entry, FieldValue
from . import details, index, mending, removal
from .details import EntryDetails
from .healing import Damage
from .rows import is_fresh
from .running import Running, store_errors
from .selection import Selection
from .usage import Usage, measure
from .verifying import NOT_SOUND, Progress, Verifier, VerifyReport

if TYPE_CHECKING:
    from .archive import ArchiveReport, Imported


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was let go of."""

    stale: int
    evicted: int
    orphans: int
    quarantined: int
    bytes: int


class Administration(Running):
    """The doors for people. A `ResultStore` is one of these."""

    def usage(self, namespace: str | None = None) -> Usage:
        """Return what the store holds, or one namespace of it."""
        return self._read(lambda db: self._measure(db, namespace))

    def namespaces(self) -> list[index.Namespace]:
        """Return every namespace that has or had entries, with its own limits."""
        return self._read(index.all_namespaces)

    def entries(self, selection: Selection | None = None) -> list[Entry]:
        """Return the entries that fit, the newest first unless the selection says otherwise."""
        return self._read(lambda db: details.select(db, selection or Selection(), self._now()))

    def count(self, selection: Selection) -> int:
        """Return how many entries fit, whatever the selection's limit."""
        return self._read(lambda db: details.count(db, selection, self._now()))

    def page(self, selection: Selection) -> tuple[list[Entry], int]:
        """Return the entries that fit and how many would without the limit; a page has 1 to 500."""

        def read(db: sqlite3.Connection) -> tuple[list[Entry], int]:
            if selection.reads_texts:
                return self._searches.page(db, selection, self._now())
            now = self._now()
            return details.select(db, selection, now), details.count(db, selection, now)

        return self._read(read)

    def entry(self, key: str) -> EntryDetails | None:
        """Return the entry whose key begins so. Raises RequestError if several do, or none can."""
        return self._read(lambda db: details.details_of(db, self._place.dictionaries, key))

    def keys_like(self, prefix: str, limit: int = 10) -> list[str]:
        """Return the keys that begin so. Raises RequestError if none can."""
        return self._read(lambda db: details.keys_like(db, prefix.lower(), limit))

    def arrivals(self, after: int | None, namespace: str | None = None) -> tuple[int, list[str]]:
        """Return where the index ends now, and the keys of what came since it ended there; at most 200.

        For whoever looks again and again; None is for the first time. What was removed and came again
        meanwhile may be left out: then the generation has grown.
        """
        return self._read(lambda db: details.arrivals(db, after, namespace))

    def nearest(self, fields: Mapping[str, FieldValue], limit: int = 5) -> list[EntryDetails]:
        """Return the entries that differ from these fields in the fewest, of the newest 5,000."""
        return self._read(lambda db: details.nearest(db, self._place.dictionaries, fields, limit))

    def read_blob(self, digest: str) -> bytes:
        """Return the bytes of a blob, checked by their full digest. Raises BlobCorruptError, StoreError."""

        def read(db: sqlite3.Connection) -> bytes:
            row = index.find_blob(db, digest)
            if row is None:
                raise BlobCorruptError(digest, "the index does not know it")
            return self._blobs.read_fully_checked(row)

        return self._read(read)

    def generation(self) -> int:
        """Return a number that grows when an entry goes or changes; quick enough for an event loop."""
        self._must_be_open()
        with store_errors, self._quick.lend() as db:
            found: int = db.execute("SELECT generation FROM totals").fetchone()[0]
            return found

    def find_blob(self, digest: str, namespace: str | None = None) -> tuple[Blob, float] | None:
        """Return the blob of that digest, if an entry (of that namespace) points at it.

        With it, the seconds of rendering that it saves: of several entries, the least.
        """
        return self._read(lambda db: index.find_blob_of(db, digest, namespace))

    def blob_file(self, digest: str) -> Path:
        """Return where the bytes of a blob lie; nobody has looked at them yet."""
        return self._layout.blob(digest)

    def suspect(self, digest: str) -> None:
        """Have a blob looked at again that a reader could not believe; what is damaged is set aside."""
        for key in self._read(lambda db: index.keys_of_blob(db, digest)):
            self._report(Damage(key, "corrupt"))

    # Changing

    def remove(self, keys: Iterable[str]) -> int:
        """Remove these entries, pinned ones too; return how many were there."""
        wanted = list(keys)
        return self._write(lambda desk: removal.remove(desk, wanted))

    def clear(self, namespace: str | None = None) -> int:
        """Remove every entry, pinned ones too, or every entry of one namespace; return how many."""
        removed = 0
        while gone := self._write(lambda desk: removal.remove_some(desk, namespace)):
            removed += gone
        return removed

    def pin(self, keys: Iterable[str]) -> int:
        """Keep these entries whatever the caps and the clock say; return how many are pinned now.

        A stale entry cannot be pinned: it would answer again.
        """
        wanted = list(keys)
        return self._write(lambda desk: removal.pin(desk, wanted))

    def unpin(self, keys: Iterable[str]) -> int:
        """Let these entries go again when their time comes, which starts anew; return how many."""
        wanted = list(keys)
        return self._write(lambda desk: removal.unpin(desk, wanted))

    def limit_namespace(
        self, namespace: str, *, ttl_seconds: float | None = None, max_bytes: int = 0, max_entries: int = 0
    ) -> None:
        """Give a namespace limits of its own, beside those of the store.

        `ttl_seconds` counts for what is kept from now on: None is the setting, 0 for ever. No cap is 0.
        """
        self._write(
            lambda desk: removal.limit_namespace(desk, namespace, ttl_seconds, max_bytes, max_entries)
        )

    def prune(self) -> PruneReport:
        """Let go of everything that is of no more use: stale, over the caps, without a row, in quarantine."""
        stale = evicted = 0
        before = self._read(index.totals).all_bytes
        now = self._now()
        if self._read(mending.broken):  # looked at without keeping writers waiting
            self._write(lambda desk: desk.mend())
        while gone := self._write(lambda desk: desk.upkeep.remove_stale(now)):
            stale += gone
        while gone := self._write(lambda desk: desk.room.trim()):
            evicted += gone
        orphans = self._write(lambda desk: desk.upkeep.sweep())
        quarantined = self._write(lambda desk: desk.upkeep.empty_quarantine())
        self._write(lambda desk: desk.upkeep.give_space_back())
        after = self._read(index.totals).all_bytes
        return PruneReport(stale, evicted, orphans, quarantined, max(0, before - after))

    # Checking and shipping

    def verify(self, *, set_aside: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Check every row, blob, file and sum; return what is wrong. Nothing is declared to be right.

        With `set_aside`, damaged entries go into the quarantine, as they would at their next use, and what
        the index says about itself is set right; an index that SQLite cannot trust is set aside as well.
        """

        def check(db: sqlite3.Connection) -> VerifyReport:
            return Verifier(db, self._layout, self._blobs, self._place.dictionaries).run(progress)

        report = self._read(check)
        if set_aside:
            for problem in report.problems:
                if problem.name in ("row_damaged", "corrupt", "blob_missing", "undecodable"):
                    report.set_aside += self._set_aside(Damage(problem.what, problem.name))
            if any(each.name in ("miscounted", "index_damaged", "unused_blob") for each in report.problems):
                self._write(lambda desk: desk.mend())
            if any(each.what == NOT_SOUND for each in report.problems):
                self._write(lambda desk: self._set_up_again(desk.opened.path))
        return report

    def export_to(self, path: Path | str, namespace: str | None = None) -> ArchiveReport:
        """Write everything fresh, or one namespace of it, into one file."""
        from . import archive  # brings zipfile and its compressors: a hit must not wait for them

        def write(db: sqlite3.Connection) -> ArchiveReport:
            return archive.export(
                db, self._blobs, self._place.dictionaries, Path(path), namespace=namespace, now=self._now()
            )

        return self._read(write)

    def import_from(self, path: Path | str) -> ArchiveReport:
        """Take in the entries of such a file, each verified by its digests; what is there already stays."""
        from . import archive

        def is_there(key: str) -> bool:
            def look(db: sqlite3.Connection) -> bool:
                found = index.rows(db, "WHERE e.key = ?", (bytes.fromhex(key),))
                return bool(found) and is_fresh(found[0].entry.expires_at, self._now())

            return self._read(look)

        def write(imported: Imported) -> None:
            self._write(lambda desk: desk.scribe.write(imported, imported.get_ready()))

        with store_errors:
            return archive.import_from(
                Path(path),
                now=self._now(),
                max_bytes=self._caps.max_bytes,
                is_there=is_there,
                write=write,
            )

    def _set_aside(self, damage: Damage) -> bool:
        return self._write(lambda desk: desk.healer.heal(damage, thorough=True))

    def _measure(self, db: sqlite3.Connection, namespace: str | None) -> Usage:
        return measure(
            db,
            namespace,
            max_bytes=self._caps.max_bytes,
            max_entries=self._caps.max_entries,
            now=self._now(),
            waiting=len(self._waiting),
            memory_bytes=self._memory.bytes,
        )
