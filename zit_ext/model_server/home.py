"""Where a model server is found: one folder for each user and device, with state, lock and log.

The lock says whether a server lives, and which process it is: the system gives it back when its holder
dies, however that is. The state says where it listens, and what only this user may read: the token. A state
without a lock is what a killed server left behind.
"""

from __future__ import annotations

import functools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

from .. import file_locks, json_texts
from ..settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a running server tells its clients."""

    port: int
    token: str = field(repr=False)
    pid: int
    version: str
    device: str
    python: str = ""
    started_at: float = 0.0
    """Unix seconds."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What it runs on: see `zit_ext.models.server_environments`."""


class ServerHome:
    """The folder of one device's server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log.txt"
        self.output = folder / "output.txt"
        """What the process itself writes: the last words of a crash."""
        self.environments = folder / "environments"
        """What the server's renders ran in: written by the server, read by all its clients."""
        self._state = folder / "state.json"
        self._last = folder / "last.json"

    @classmethod
    def of(cls, settings: Settings) -> ServerHome:
        """Return the home for the device of these settings."""
        device = f"{settings.device}:0" if settings.device in ("cuda", "xpu") else settings.device
        return cls(settings.data_dir / "server" / re.sub(r"[^A-Za-z0-9]+", "-", device))

    def state(self) -> State | None:
        """Return what the server that runs says of itself; None if none runs, or none is ready yet."""
        return _read(self._state) if self.is_locked("lock") else None

    def last_state(self) -> State | None:
        """Return what the server that runs, or ran last, said of itself; without its token."""
        return _read(self._last)

    def write_state(self, state: State) -> None:
        """Tell everybody of this user where the server is."""
        # Whoever reads `last` must not find a token in it that a backup carries elsewhere.
        self._write(self._last, {**asdict(state), "token": ""})
        self._write(self._state, asdict(state))

    def remove_state(self) -> None:
        self._state.unlink(missing_ok=True)

    def is_locked(self, name: str) -> bool:
        """Say whether somebody holds this lock."""
        return file_locks.is_locked(self.folder / name)

    def holder(self, name: str) -> int | None:
        """Return the number of the process that holds this lock; None if nobody does."""
        return file_locks.holder(self.folder / name)

    def try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock until it is closed; None while somebody else does."""
        self._make_folder()
        return file_locks.try_lock(self.folder / name)

    @contextmanager
    def held(self, descriptor: int) -> Iterator[None]:
        """Give the lock back at the end."""
        try:
            yield
        finally:
            os.close(descriptor)

    def last_words(self, most_lines: int = 12) -> str:
        """Return the end of what the process wrote, of a traceback the error alone."""
        try:
            lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
        after = lines[frames[-1] + 1 :] if frames else lines
        error = list(dropwhile(lambda line: line.startswith("  "), after))
        return "\n".join((error or lines)[-most_lines:])

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        self._make_folder()
        # mkstemp: readable by this user only, before the first byte is in it.
        handle, name = tempfile.mkstemp(prefix=".new-", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump({"format": 1, **content}, file, indent=1)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _read(path: Path) -> State | None:
    try:
        seen = path.stat()
        # Each state is a new file. Clients look at it for each picture, and it names hundreds of folders.
        return _read_once(path, seen.st_mtime_ns, seen.st_size, seen.st_ino)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


@functools.lru_cache(maxsize=8)
def _read_once(path: Path, *_stamp: int) -> State:
    told = json_texts.parsed(path.read_text(encoding="ascii"))
    state = State(**{name: each for name, each in told.items() if name in State.__dataclass_fields__})
    texts = (state.token, state.version, state.device, state.python)
    if (
        not (type(state.port) is int and 0 <= state.port < 65_536)
        or not all(isinstance(each, str) for each in texts)
        or not (isinstance(state.facts, dict) and isinstance(state.facts.get("path", []), list))
    ):
        raise ValueError("it is of another version, or damaged")
    return state
