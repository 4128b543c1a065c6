"""Which bytes the weights in memory came from. Knows files and times; knows no webui.

A key that names what the file holds today would lie if the file was replaced after it was loaded. So
each loaded thing is noted with its file as the file system described it, and counts as traced only if
that file had been left alone since before the loading began, and was not touched afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from zit_ext.errors import ModelError
from zit_ext.models.weight_files import SeenFile, look

MARGIN_SECONDS = 2.0
"""Clocks tick coarsely, and those of file servers differ a little."""
BYTES_PER_SECOND = 50_000_000
"""How fast weights are loaded at least, where nobody saw the loading begin."""


class UntraceableError(Exception):
    """Nobody can tell which bytes are in memory; the words say why, and what to do."""


class Provenance:
    """Notes what was loaded from where. Things are held weakly; one thread at a time asks."""

    def __init__(self, process_started: float, *, watched_from_start: bool = True) -> None:
        self._started = process_started
        self._sees_loading = watched_from_start
        """False: things were loaded before anybody watched, so that only old files prove anything."""
        self._notes: WeakKeyDictionary[object, dict[str, SeenFile | None]] = WeakKeyDictionary()
        self._first: dict[str, SeenFile | None] = {}

    def note_named(self, name: str, thing: object, path: str, *, loaded_after: float | None = None) -> None:
        """Note what was loaded under a name, and remember what was the first under it."""
        if thing not in self._notes:
            self.note(thing, [path], loaded_after=loaded_after)
            self._first.setdefault(name, self._notes[thing][path])

    def must_be_first(self, name: str, seen: SeenFile) -> None:
        """Raise UntraceableError if something else was loaded under this name before."""
        if self._first.get(name, seen) != seen:
            raise UntraceableError(
                f"{Path(name).name} was replaced while the webui runs, which may still apply the old one; "
                "restart the webui, or give the new one another name"
            )

    def note(self, thing: object, paths: Iterable[str], *, loaded_after: float | None = None) -> None:
        """Note the files that a thing was loaded from, unless they are noted already.

        `loaded_after`: a time that is certainly before the loading began; None is the process's start.
        Files that are no longer named are forgotten: the thing holds other weights now.
        """
        before = self._notes.get(thing, {})
        since = self._started
        if loaded_after is not None and self._sees_loading:
            since = max(loaded_after, since)
        self._notes[thing] = {
            path: before[path] if path in before else _if_older(path, since) for path in paths
        }

    def knows(self, thing: object) -> bool:
        return thing in self._notes

    def file_of(self, thing: object, path: str) -> SeenFile:
        """Return the file that this thing was loaded from, as it is. Raises UntraceableError."""
        noted = self._notes.get(thing, {}).get(path)
        if noted is None:
            raise UntraceableError(
                f"{Path(path).name} was written while the webui runs; load it again, or restart the webui"
            )
        if self.file_now(path) != noted:
            raise UntraceableError(f"{Path(path).name} has changed since it was loaded; load it again")
        return noted

    def file_since_start(self, path: str) -> SeenFile:
        """Return a file that did not change in this process's life. Raises UntraceableError."""
        seen = self.file_now(path)
        if _changed_at(seen) + MARGIN_SECONDS > self._started:
            raise UntraceableError(f"{Path(path).name} was written while the webui runs; restart the webui")
        return seen

    def file_now(self, path: str) -> SeenFile:
        """Return a file as it is now. Raises UntraceableError if it cannot be seen."""
        try:
            (seen,) = look(Path(path))
        except (ModelError, ValueError) as error:
            raise UntraceableError(f"{path} cannot be seen: {error}") from error
        return seen


def begun_before(path: str, now: float) -> float:
    """Return a time before which the loading of a file, which ended now, had certainly begun."""
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0
    return now - MARGIN_SECONDS - size / BYTES_PER_SECOND


def _if_older(path: str, since: float) -> SeenFile | None:
    try:
        (seen,) = look(Path(path))
    except (ModelError, ValueError):
        return None
    return seen if _changed_at(seen) + MARGIN_SECONDS <= since else None


def _changed_at(seen: SeenFile) -> float:
    return max(seen.mtime_ns, seen.ctime_ns) / 1e9
