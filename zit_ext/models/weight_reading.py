"""Reads safetensors files into memory of our own, several pieces at a time.

Threads read the pieces side by side, each straight to its place: no file stays mapped, and
nothing is copied twice. The memory is asked for in large pages where the system has them. Torch is
known only where tensors are made of the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import GenerationStoppedError, ModelError
from ..workers import Worker
from . import zimage_checkpoints as checkpoints
from .zimage_checkpoints import Checkpoint, Stored

THREADS = min(8, max(2, os.cpu_count() or 2))
"""More than that wait for each other's page faults: with eight on two cores, a third slower."""
PIECE = 16 * 1024**2
"""Bytes that one thread reads at a time; between two pieces it looks whether anybody still waits."""
SLAB = 1024**3
"""Bytes of memory that are asked for, and given back, as a whole."""
_ALIGNED = 64  # bytes; as torch aligns its own


def read_tensors(
    files: Sequence[Path],
    dtype: Any = None,
    *,
    wanted: Callable[[], bool] = lambda: True,
    leave_out: Callable[[str], bool] = lambda name: False,
) -> dict[str, Any]:
    """Return the tensors of the files by name, in RAM, in one number format or as they are stored.

    `wanted` is asked now and then, from any thread: where it says no, GenerationStoppedError is raised.
    Raises ModelError for a file that is damaged or changes meanwhile, and MemoryError.
    """
    tensors: dict[str, Any] = {}
    stopped = threading.Event()
    readers = [Worker("zit-read") for _ in range(THREADS)]
    try:
        with ExitStack() as stack:
            reading: deque[_Slab] = deque()
            for slab in _slabs(stack, files, leave_out):
                slab.start(readers, lambda: wanted() and not stopped.is_set())
                reading.append(slab)
                if len(reading) > 1:  # one is read while the other is converted
                    tensors.update(reading.popleft().tensors(dtype))
            while reading:
                tensors.update(reading.popleft().tensors(dtype))
    finally:
        stopped.set()
        for reader in readers:
            reader.abandon()
    return tensors


class _OpenFile:
    """One file, open once for each thread that reads it, so that none moves another's place."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.path = path
        self.handles: list[BinaryIO] = [
            stack.enter_context(path.open("rb", buffering=0)) for _ in range(THREADS)
        ]
        if len({os.fstat(handle.fileno()).st_ino for handle in self.handles}) > 1:
            raise ModelError(f"{path} was replaced while it was read; ask again")
        self.checkpoint: Checkpoint = checkpoints.read_header(self.handles[0], path)


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    stored: Stored
    at: int
    """Its first byte in the slab."""


class _Slab:
    """A stretch of memory for tensors that follow each other in a file."""

    def __init__(self, file: _OpenFile, places: Sequence[_Place], length: int) -> None:
        self._file = file
        self._places = places
        self._length = length
        self._memory: mmap.mmap | None = None
        self._pieces: list[Future[None]] = []

    def start(self, readers: Sequence[Worker], wanted: Callable[[], bool]) -> None:
        self._memory = _memory(self._length)
        view = memoryview(self._memory or b"")
        number = 0
        for place in self._places:
            size = place.stored.end - place.stored.start
            for done in range(0, size, PIECE):
                piece = view[place.at + done : place.at + min(done + PIECE, size)]
                reader, handle = readers[number % THREADS], self._file.handles[number % THREADS]
                offset = place.stored.start + done
                self._pieces.append(reader.submit(_fill, handle, offset, piece, self._file.path, wanted))
                number += 1

    def tensors(self, dtype: Any) -> Iterator[tuple[str, Any]]:
        """Wait for the bytes, and yield the tensors that they are."""
        import torch

        for piece in self._pieces:
            piece.result()
        self._pieces.clear()
        kinds = {
            "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
            "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
        }  # fmt: skip
        memory, self._memory = self._memory, None
        for place in self._places:
            shape = place.stored.shape
            count = (place.stored.end - place.stored.start) // checkpoints.ITEM_BYTES[place.stored.dtype]
            kind = kinds[place.stored.dtype]
            if memory is None or count == 0:
                tensor = torch.empty(shape, dtype=kind)
            else:
                tensor = torch.frombuffer(memory, dtype=kind, count=count, offset=place.at).reshape(shape)
            yield place.name, tensor if dtype is None else tensor.to(dtype)


def _slabs(stack: ExitStack, files: Sequence[Path], leave_out: Callable[[str], bool]) -> Iterator[_Slab]:
    for path in files:
        file = _OpenFile(stack, path)
        places: list[_Place] = []
        length = 0
        for name, stored in sorted(file.checkpoint.tensors.items(), key=lambda each: each[1].start):
            if leave_out(name):
                continue
            size = stored.end - stored.start
            if places and length + size > SLAB:
                yield _Slab(file, places, length)
                places, length = [], 0
            places.append(_Place(name, stored, length))
            length += -(-size // _ALIGNED) * _ALIGNED
        if places:
            yield _Slab(file, places, length)


def _memory(length: int) -> mmap.mmap | None:
    """Return memory that belongs to no file; None for none. Raises MemoryError."""
    if not length:
        return None
    try:
        # Private: memory that could be shared with other processes gets no large pages.
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}
        memory = mmap.mmap(-1, length, **private)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"{length} bytes for weights") from error
        raise
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages: slower, and the same bytes
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _fill(handle: BinaryIO, offset: int, piece: memoryview, path: Path, wanted: Callable[[], bool]) -> None:
    if not wanted():
        raise GenerationStoppedError(f"reading {path.name} was given up: nobody waits for it any more")
    handle.seek(offset)
    while piece:
        count: int = handle.readinto(piece)  # type: ignore[attr-defined]
        if not count:
            raise checkpoints.damaged(path, "it ends early; it was cut short while it was read")
        piece = piece[count:]
