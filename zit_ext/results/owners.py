"""Who is alive: each open store holds the lock of a file of its own, and the system lets go when it dies.

A process id could be another's by now, or mean nothing in the container next door; a lock cannot lie.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


_TOKEN = re.compile(r"[0-9a-f]{24}")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock that only one thread of one process can hold; wait for it."""
    descriptor = _open(path)
    try:
        _lock(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


class Owner:
    """This open store, as other processes can see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        while True:
            self.token = secrets.token_hex(12)
            path = folder / self.token
            self._descriptor = _open(path)
            _lock(self._descriptor, wait=True)
            # Whoever cleans up may have taken the file for a dead one's before it was locked.
            if path.exists():
                return
            os.close(self._descriptor)

    def is_alive(self, token: str) -> bool:
        """Tell whether the store with this token is still open somewhere on this machine."""
        return token == self.token or is_alive(self._folder, token)

    def others(self) -> bool:
        """Tell whether any other store is open on this folder."""
        return any(
            path.name != self.token and self.is_alive(path.name)
            for path in self._folder.iterdir()
            if _TOKEN.fullmatch(path.name)
        )

    def bury_the_dead(self) -> list[str]:
        """Remove the files of stores that died, and return their tokens."""
        dead = []
        for path in self._folder.iterdir():
            if _TOKEN.fullmatch(path.name) and not self.is_alive(path.name):
                dead.append(path.name)
                with contextlib.suppress(OSError):
                    path.unlink()
        return dead

    def close(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / self.token).unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def is_alive(folder: Path, token: str) -> bool:
    """Tell whether the store with this token is open somewhere on this machine."""
    if not _TOKEN.fullmatch(token):
        return False
    try:
        descriptor = os.open(folder / token, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        _lock(descriptor, wait=False)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
