"""Reads the weight files of whoever is next ahead, so that the system has them in memory at their turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ..models.holdings import weights_key
from ..records import ModelRef
from ..workers import Worker

log = logging.getLogger(__name__)

_PIECE = 16 * 1024**2
_WEIGHTS = {".safetensors", ".gguf"}


def weight_files(model: ModelRef) -> Iterator[Path]:
    """Yield the model's weight files, its replaced parts left out. Raises OSError."""
    for ref in (model, *model.parts.values()):
        if ref.path is None:
            continue
        for file in sorted(ref.path.rglob("*")) if ref.path.is_dir() else [ref.path]:
            if file.suffix in _WEIGHTS and (ref is not model or file.parent.name not in model.parts):
                yield file


class Prefetcher:
    """Reads one model's files at a time, on the thread `zit-prefetch`, and keeps nothing of them.

    The system's page cache does: memory that it gives to whoever needs it. Asked from one thread only.
    """

    def __init__(self, free_ram: Callable[[], int | None]) -> None:
        self._free_ram = free_ram
        self._worker = Worker("zit-prefetch")
        self._stopped = threading.Event()
        self._key: str | None = None

    def begin(self, model: ModelRef) -> None:
        """Read this model's files ahead, in place of any other's; what was begun goes on."""
        key = weights_key(model)
        if key == self._key:
            return
        self.stop()
        self._key, self._stopped = key, threading.Event()
        self._worker.submit(self._read, model, self._stopped)

    def stop(self) -> None:
        """Read no further: the disk is wanted for something else."""
        self._stopped.set()
        self._key = None

    def close(self) -> None:
        """End the thread."""
        self.stop()
        self._worker.abandon()

    def _read(self, model: ModelRef, stopped: threading.Event) -> None:
        done = 0
        try:
            files = list(weight_files(model))
            free = self._free_ram()
            if free is not None and sum(file.stat().st_size for file in files) > free // 2:
                return  # it would only push out what somebody uses
            buffer = bytearray(_PIECE)
            for path in files:
                with path.open("rb", buffering=0) as file:
                    while not stopped.is_set() and (count := file.readinto(buffer)):
                        done += count
        except OSError as error:
            log.debug("reading %r ahead failed: %s", model.source, error)  # its load will tell
        finally:
            log.debug("read %d bytes of %r ahead", done, model.source)
