"""What went wrong with plugins, remembered by name, so that `zit-ext plugins` and a dashboard can tell.

A host fails in its own process, and the person who wonders asks in another one: so troubles are kept
in a small file too. It is for people: a fault of the file is never an error, and decides nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .json_texts import parsed

KINDS = ("left_out", "failed", "nonsense", "slow", "bypassed", "hung")

_MOST = 100
_MOST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble with one hook of one plugin, the last time it was seen."""

    plugin: str
    hook: str
    """Empty if the plugin could not even be registered."""
    kind: str
    """left_out, failed, nonsense, slow, bypassed (too often slow) or hung."""
    words: str
    at: float
    """Unix seconds."""
    times: int = 1
    """In the process that saw it last."""
    where: str = "python"
    """The program that saw it, such as comfyui."""


class Troubles:
    """The troubles of this process, written through to a file. Any thread may add."""

    def __init__(
        self, path: Path | None = None, *, where: str = "python", clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._where = where
        self._clock = clock
        self._seen: dict[tuple[str, str, str], Trouble] = {}
        self._lock = threading.Lock()

    def add(self, plugin: str, hook: str, kind: str, words: str) -> Trouble:
        """Remember a trouble, and return it with the number of times that it was seen."""
        with self._lock:
            before = self._seen.get((plugin, hook, kind))
            times = before.times + 1 if before else 1
            trouble = Trouble(plugin, hook, kind, _shortened(words), self._clock(), times, self._where)
            self._seen[plugin, hook, kind] = trouble
            # A plugin that fails at each request must not write a file at each request.
            if self._path is not None and times & (times - 1) == 0:
                _write(self._path, list(self._seen.values()))
        return trouble

    def all(self) -> list[Trouble]:
        """Return the troubles of this process, the newest first."""
        with self._lock:
            return sorted(self._seen.values(), key=lambda trouble: -trouble.at)


def read_troubles(path: Path) -> list[Trouble]:
    """Return what programs of this user wrote down, the newest first. A damaged file holds nothing."""
    try:
        rows = parsed(path.read_text(encoding="utf-8"))
        found = [Trouble(**row) for row in rows]
        return sorted(found, key=lambda trouble: -trouble.at) if all(map(_is_whole, found)) else []
    except (OSError, ValueError, TypeError):
        return []


def forget_troubles(path: Path, plugin: str | None = None) -> int:
    """Remove what was written down of one plugin, or of all; return how many troubles that were."""
    known = read_troubles(path)
    kept = [trouble for trouble in known if plugin is not None and trouble.plugin != plugin]
    if len(kept) < len(known):
        _replace(path, kept)
    return len(known) - len(kept)


def _is_whole(trouble: Trouble) -> bool:
    texts = (trouble.plugin, trouble.hook, trouble.kind, trouble.words, trouble.where)
    return all(isinstance(each, str) for each in texts) and type(trouble.times) is int


def _shortened(words: str) -> str:
    """Return the beginning and the end: what went wrong, and the innermost lines of the stack."""
    if len(words) <= _MOST_WORDS:
        return words
    return f"{words[:500]}\n[...]\n{words[-(_MOST_WORDS - 507) :]}"


def _write(path: Path, ours: Iterable[Trouble]) -> None:
    rows = {(each.plugin, each.hook, each.kind): each for each in read_troubles(path)}
    rows |= {(each.plugin, each.hook, each.kind): each for each in ours}
    newest = sorted(rows.values(), key=lambda trouble: -trouble.at)[:_MOST]
    _replace(path, newest)


def _replace(path: Path, troubles: Iterable[Trouble]) -> None:
    text = json.dumps([asdict(each) for each in troubles], indent=1)
    beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            # A reader sees the whole file or the one before.
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
