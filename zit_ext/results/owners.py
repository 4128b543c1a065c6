"""Who is alive: each open store holds the lock of a file of its own, and the system lets go when it dies.

A process id could be another's by now, or mean nothing in the container next door; a lock cannot lie.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}
_TOKEN = re.compile(r"[0-9a-f]{24}")


@contextlib.contextmanager
def exclusive(path: Path, patience: float = 30.0) -> Iterator[None]:
    """Hold a lock that only one thread of one process can hold; wait for it so many seconds.

    Raises StoreError if somebody else holds it all that time.
    """
    descriptor = _open(path)
    try:
        deadline = time.monotonic() + patience
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise StoreError(f"another process has held {path} for {patience:.0f} seconds")
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


_HERE: weakref.WeakSet[Owner] = weakref.WeakSet()
"""The owners of this process."""


class Owner:
    """This open store, as other processes can see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        while True:
            self.token = secrets.token_hex(12)
            path = folder / self.token
            self._descriptor = _open(path)
            # Whoever cleans up may have taken the file for a dead one's before it was locked.
            if _try_lock(self._descriptor) and path.exists():
                _HERE.add(self)
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

    def let_go(self) -> None:
        """Forget the lock without giving it up: in a fork, the file is the parent's to hold."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def close(self) -> None:
        _HERE.discard(self)
        with contextlib.suppress(OSError):
            (self._folder / self.token).unlink()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def _forked() -> None:
    # A child that lives on must not keep its dead parent's lock.
    for owner in list(_HERE):
        owner.let_go()
    _HERE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def is_alive(folder: Path, token: str) -> bool:
    """Tell whether the store with this token is open somewhere on this machine."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return False  # of a row that is damaged
    try:
        descriptor = os.open(folder / token, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _try_lock(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Take the lock if nobody holds it. Raises OSError where there are no locks."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
