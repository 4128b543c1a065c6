"""One install.py at a time in one checkout. The system gives the lock back when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .trouble import SetupError


@contextmanager
def only_one(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock file; the value is its descriptor. Waits for another holder, and says so once.

    A child that inherits the descriptor holds the lock too (POSIX): a pip that outlives a killed
    install.py still keeps the next one out.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written: {error.strerror}.",
            "The folder of the project must be writable: change its owner, or clone it somewhere else.",
        ) from error
    try:
        if not _try_lock(descriptor):
            say("Another install.py is at work in this folder; waiting for it ...")
            while not _try_lock(descriptor):
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
