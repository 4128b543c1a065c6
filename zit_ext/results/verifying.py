"""Looks at everything that the store holds, and says what is wrong. Nothing is declared to be right."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from ..codecs import CodecError
from ..errors import BlobCorruptError
from ..records import Blob
from .blobs import BlobMissingError, Blobs
from .decoding import check_decodable
from .details import every_row
from .dictionaries import Dictionaries
from .healing import canonical_of
from .layout import FAN_OUT, Layout
from .mending import POINTERS, SMALL_RULES, broken
from .rows import Row

NOT_SOUND = "its pages"
"""What is damaged where SQLite itself finds fault with the index."""

Progress = Callable[[int, int], None]
"""Called with how many entries were looked at, and how many there are."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, by the name under which it is counted."""

    name: str
    what: str
    """The key of an entry, the name of a file, or the name of a sum."""
    detail: str = ""


@dataclass(slots=True)
class VerifyReport:
    """What was looked at, and what was wrong with it."""

    entries: int = 0
    blobs: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    set_aside: int = 0
    """Damaged entries that were removed, if that was asked for."""

    @property
    def is_whole(self) -> bool:
        return not self.problems

    def note(self, name: str, what: str, detail: str = "") -> None:
        self.problems.append(Problem(name, what, detail))


class Verifier:
    """Checks one store through a connection that reads."""

    def __init__(
        self, db: sqlite3.Connection, layout: Layout, blobs: Blobs, dictionaries: Dictionaries
    ) -> None:
        self._db = db
        self._layout = layout
        self._blobs = blobs
        self._dictionaries = dictionaries
        self._report = VerifyReport()
        self._known_good: set[tuple[Blob, str]] = set()

    def run(self, progress: Progress | None = None) -> VerifyReport:
        """Look at every row, every blob (by its full digest, and decoded), every file and every sum."""
        total = self._db.execute("SELECT count(*) FROM entries").fetchone()[0]
        for row in every_row(self._db):
            self._report.entries += 1
            if isinstance(row, str):
                self._report.note("row_damaged", row)
            else:
                self._check(row)
            if progress is not None:
                progress(self._report.entries, total)
        self._check_files()
        self._check_sums()
        self._check_index()
        return self._report

    def _check(self, row: Row) -> None:
        key = row.entry.key
        try:
            canonical_of(self._db, self._dictionaries, row)
        except ValueError as error:
            self._report.note("row_damaged", key, str(error))
            return
        blob = row.entry.blob
        if (blob, row.entry.content_digest) in self._known_good:
            return
        try:
            data = self._blobs.read_fully_checked(blob)
            self._report.blobs += 1
            self._report.bytes += len(data)
            check_decodable(blob.media_type, data, row.entry.content_digest)
        except BlobMissingError as error:
            if not self._is_gone(row):
                self._report.note("blob_missing", key, str(error))
        except BlobCorruptError as error:
            self._report.note("corrupt", key, str(error))
        except CodecError as error:
            self._report.note("undecodable", key, str(error))
        except OSError as error:
            self._report.note("unreadable", key, str(error))
        else:
            self._known_good.add((blob, row.entry.content_digest))

    def _is_gone(self, row: Row) -> bool:
        """Tell whether the entry went while we looked."""
        again = self._db.execute("SELECT blob FROM entries WHERE id = ?", (row.id,)).fetchone()
        return again is None or again[0] != row.blob_id

    def _check_files(self) -> None:
        """Note files that no row knows. Row before file: a file that came meanwhile has its row already."""
        for folder in FAN_OUT:
            try:
                names = os.listdir(self._layout.blobs / folder)  # noqa: PTH208 - names alone are needed
            except FileNotFoundError:
                continue
            for name in names:
                if not self._is_known(name) and self._stays_unknown(folder, name):
                    self._report.note("orphan", name, "no row knows this file")
        for (digest,) in self._db.execute(
            "SELECT digest FROM blobs b WHERE NOT doomed AND NOT EXISTS "
            "(SELECT 1 FROM entries WHERE blob = b.id)"
        ).fetchall():
            self._report.note("unused_blob", digest.hex(), "no entry points at it")

    def _stays_unknown(self, folder: str, name: str) -> bool:
        """Tell whether it is not merely on its way out, or coming back."""
        return os.path.lexists(self._layout.blobs / folder / name) and not self._is_known(name)

    def _is_known(self, name: str) -> bool:
        try:
            digest = bytes.fromhex(name)
        except ValueError:
            return False
        question = "SELECT 1 FROM blobs WHERE digest = ?1 UNION SELECT 1 FROM reservations WHERE digest = ?1"
        return self._db.execute(question, (digest,)).fetchone() is not None

    def _check_sums(self) -> None:
        """Compare what triggers have counted with what is there, in one snapshot."""
        found = self._db.execute(
            "SELECT entries, (SELECT count(*) FROM entries), "
            "bytes, (SELECT coalesce(sum(size), 0) FROM blobs), "
            "aside_bytes, (SELECT coalesce(sum(size), 0) FROM aside), "
            "(SELECT coalesce(sum(entries), 0) FROM namespaces), entries, "
            "(SELECT coalesce(sum(bytes), 0) FROM namespaces), (SELECT coalesce(sum(size), 0) FROM entries), "
            "(SELECT coalesce(sum(refs), 0) FROM blobs), entries FROM totals"
        ).fetchone()
        if found is None:
            return  # `_check_index` says so
        names = (
            "entries",
            "bytes",
            "quarantine",
            "entries of namespaces",
            "bytes of namespaces",
            "references",
        )
        for name, counted, there in zip(names, found[::2], found[1::2], strict=True):
            if counted != there:
                self._report.note("miscounted", name, f"{counted} were counted, {there} are there")

    def _check_index(self) -> None:
        """Note what the index says about itself and cannot be, and what SQLite finds wrong with it."""
        for name in broken(self._db, SMALL_RULES + POINTERS):
            self._report.note("index_damaged", name, "it holds what it cannot hold, or points at nothing")
        for (line,) in self._db.execute("PRAGMA integrity_check(20)").fetchall():
            if line != "ok":
                self._report.note("index_damaged", NOT_SOUND, str(line))
