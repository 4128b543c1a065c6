"""Where things lie in the store's folder. Every name is made here, from hex digits: none can escape."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

_INDEX = re.compile(r"index-([0-9]{20})\.sqlite3")
_DIGEST = re.compile(r"[0-9a-f]{64}")

FAN_OUT = tuple(f"{number:02x}" for number in range(256))
"""The folders that blobs are spread over."""


def is_digest(text: str) -> bool:
    """Tell whether this is a SHA-256 as we spell it; nothing else becomes part of a path.

    >>> is_digest("0" * 64), is_digest("../" + "0" * 61)
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


class Layout(NamedTuple):
    """The paths of one store."""

    root: Path

    def find_index(self) -> Path:
        """Return the index: of several, the newest. Raises FileNotFoundError if there is none."""
        found = self.indexes()
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no index", str(self.root))
        return found[-1]

    def indexes(self) -> list[Path]:
        """Return every file that is or was the index, the oldest first."""
        # Names alone, and quickly: this is asked again whenever the index has moved.
        names = sorted(name for name in os.listdir(self.root) if _INDEX.fullmatch(name))  # noqa: PTH208
        return [self.root / name for name in names]

    def new_index(self, time_ns: int) -> Path:
        """Return a name that no index had before.

        SQLite deletes a journal by its name when the last program closes an index: an index that took
        the name of a deleted one would lose its own journal to the old one's readers.
        """
        after = max((int(_INDEX.fullmatch(path.name)[1]) for path in self.indexes()), default=0)  # type: ignore[index]
        return self.root / f"index-{max(time_ns, after + 1):020d}.sqlite3"

    @property
    def lock(self) -> Path:
        """Held while the index is created, migrated or replaced."""
        return self.root / "index.lock"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def incoming(self) -> Path:
        """Blobs that are being written; each name begins with its owner's token."""
        return self.root / "incoming"

    @property
    def quarantine(self) -> Path:
        """What was found damaged, out of reach of any hit."""
        return self.root / "quarantine"

    @property
    def owners(self) -> Path:
        """One locked file for each store that is open: who holds no lock is dead."""
        return self.root / "owners"

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.root, self.blobs, self.incoming, self.quarantine, self.owners)

    def blob(self, digest: str) -> Path:
        """Return where the blob of this name lies."""
        if not is_digest(digest):
            raise ValueError(f"{digest!r} is not a digest")
        return self.blobs / digest[:2] / digest
