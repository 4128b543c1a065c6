"""Looks at the files of weights: which there are, and what the file system says of each. Reads none.

What counts is every file that may change a picture: weights, configs, tokenizer, chat template. What
is known to change none is left out: hidden files, documents, pictures. An unknown file counts.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, ModelMissingError

MAX_FILES = 10_000
_MAX_DEPTH = 16

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".svg", ".ico", ".avif", ".mp4", ".pdf")
_DOCUMENTS = (".md", ".rst", ".html")
_NAMES = frozenset({"license", "license.txt", "notice", "notice.txt", "readme", "readme.txt", "use_policy"})
_DROPPINGS = frozenset({"thumbs.db", "desktop.ini", "__pycache__"})


@dataclass(frozen=True, slots=True)
class SeenFile:
    """One file, as the file system described it. Two equal ones are the same bytes, if both are settled."""

    name: str
    """Relative to the folder that was looked at, with slashes; "" for a file that was named itself."""
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @property
    def stat_words(self) -> str:
        """Return everything but name and path, as one text."""
        return f"{self.size} {self.mtime_ns} {self.ctime_ns} {self.inode} {self.device}"


def look(path: Path) -> tuple[SeenFile, ...]:
    """Return the files that count at this path, a file or a folder, sorted by name. Links are followed.

    Raises ModelMissingError where nothing is there or a link leads nowhere, and ModelError for a
    folder that cannot be read, goes round in circles or holds more files than any model.
    """
    top = os.fspath(path)
    try:
        found = _stat(top)
        if not stat.S_ISDIR(found.st_mode):
            return (_seen("", top, found),)
        files = list(itertools.islice(_walk(top, "", ((found.st_dev, found.st_ino),)), MAX_FILES + 1))
    except FileNotFoundError as error:
        raise ModelMissingError(top, "the file or folder is not there") from error
    except OSError as error:
        raise ModelError(f"{top} cannot be read: {error}") from error
    if len(files) > MAX_FILES:
        raise _too_much(top)
    files.sort(key=lambda each: each.name)
    return tuple(files)


def look_again(seen: SeenFile) -> SeenFile | None:
    """Return what the file system says of the same file now; None if it is gone."""
    try:
        return _seen(seen.name, seen.path, _stat(seen.path))
    except OSError:
        return None


def identity_of(files: Iterable[SeenFile]) -> str:
    """Return the identity of these files as they are now: SHA-256 of where and how they were seen.

    It changes whenever a file is written, replaced, added, removed or moved; microseconds to compute.
    """
    digest = hashlib.sha256()
    for each in files:
        digest.update(os.fsencode(f"{each.path}\0{each.stat_words}\n"))
    return digest.hexdigest()


def counts(name: str) -> bool:
    """Tell whether a file or folder of this name may change a picture.

    >>> counts("model.safetensors"), counts("chat_template.jinja"), counts("merges.txt")
    (True, True, True)
    >>> counts("README.md"), counts(".gitattributes"), counts("preview.png")
    (False, False, False)
    """
    lower = name.lower()
    return not (
        lower.startswith(".")
        or lower.endswith(_PICTURES)
        or lower.endswith(_DOCUMENTS)
        or lower in _NAMES
        or lower in _DROPPINGS
    )


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[SeenFile]:
    subfolders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not counts(entry.name):
                continue
            try:
                # Not entry.stat(): on Windows that one knows neither inode nor device.
                found = _stat(entry.path)
            except FileNotFoundError as error:
                if entry.is_symlink():
                    raise ModelMissingError(
                        entry.path,
                        "it is a link to a file that is not there; the download is incomplete, run it again",
                    ) from error
                continue  # it went away while we looked
            if stat.S_ISDIR(found.st_mode):
                subfolders.append((entry, (found.st_dev, found.st_ino)))
            elif stat.S_ISREG(found.st_mode):
                yield _seen(prefix + entry.name, entry.path, found)
    for entry, own in subfolders:
        if own in above:
            raise ModelError(f"{entry.path} leads back to a folder above it; remove that link")
        if len(above) >= _MAX_DEPTH:
            raise _too_much(folder)
        yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, own))


def _stat(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - a Path for each file would double the time of a look


def _seen(name: str, path: str, found: os.stat_result) -> SeenFile:
    return SeenFile(
        name, path, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
    )


def _too_much(folder: str) -> ModelError:
    return ModelError(f"{folder} holds more than any model; name the folder of the model itself")
