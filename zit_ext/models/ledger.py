"""Which of our processes hold weights on which device, and how they ask each other to park.

A file for each process that holds something, and a lock beside it that the system gives back when the
process dies: a row without its lock is void. An ask is a file that whoever is asked removes when he has
parked. Faults of the folder are for callers to shrug at: without a ledger each process minds itself.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..file_locks import is_locked, try_lock
from ..json_texts import parsed

PATIENCE = 15.0
"""Seconds that all who are asked may take together: to park 12 GB takes a few."""
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """What one process holds on one device."""

    name: str
    pid: int
    label: str
    """The program, such as comfyui or server."""
    device: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Another process of ours needs so many bytes."""

    path: Path
    bytes: int


class Ledger:
    """This process's row, and a look at the others'. Every method may raise OSError."""

    def __init__(self, folder: Path, label: str = "python") -> None:
        self._folder = folder
        self._label = label
        self._name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._lock: int | None = None
        self._told: tuple[str, int] | None = None

    def tell(self, device: str, held_bytes: int) -> None:
        """Say what this process holds. Nothing held is no row."""
        if not held_bytes:
            self.close()
        elif self._told != (device, held_bytes):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = try_lock(self._file("lock"))
            content = {"pid": os.getpid(), "label": self._label, "device": device, "bytes": held_bytes}
            self._write(self._file("json"), content)
            self._told = (device, held_bytes)

    def rows(self) -> list[Row]:
        """Return the rows of all our processes on all devices, the largest first."""
        return sorted(self._alive(), key=lambda row: row.bytes, reverse=True)

    def others(self, device: str) -> list[Row]:
        """Return the rows of our other processes on the device, the largest first."""
        return [row for row in self.rows() if row.device == device and row.name != self._name]

    def ask_others(
        self,
        device: str,
        lack: Callable[[], int],
        *,
        meanwhile: Callable[[], None] = lambda: None,
        patience: float | None = None,
    ) -> None:
        """Ask the others to park, one after another, as long as bytes lack. Waits for them.

        `meanwhile` is called all the time: whoever asks may be asked himself.
        """
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        for row in self.others(device):
            wanted = lack()
            if wanted <= 0:
                return
            ask = self._file(f"ask-{self._name}", row.name)
            self._write(ask, {"bytes": wanted})
            try:
                while ask.exists() and lack() > 0 and is_locked(self._file("lock", row.name)):
                    meanwhile()
                    if time.monotonic() > deadline:
                        return
                    time.sleep(_LOOK_SECONDS)
            finally:
                ask.unlink(missing_ok=True)

    def asks(self) -> list[Ask]:
        """Return what others ask of this process."""
        found = []
        for path in self._folder.glob(f"{self._name}.ask-*"):
            wanted = _read(path).get("bytes")
            found.append(Ask(path, wanted if isinstance(wanted, int) else 0))
        return found

    def answered(self, ask: Ask) -> None:
        """Tell who asked that what could be parked is parked. Twice is fine."""
        ask.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the row away. Twice is fine."""
        self._told = None
        if self._lock is not None:
            self._file("json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None
            self._file("lock").unlink(missing_ok=True)

    def _alive(self) -> Iterator[Row]:
        for path in self._folder.glob("*.json"):
            name = path.name.removesuffix(".json")
            if is_locked(self._file("lock", name)):
                if (row := _row(name, _read(path))) is not None:
                    yield row
                continue
            # Its process died. It had the lock before it wrote this, so nobody is in between.
            for left in (path, self._file("lock", name), *self._folder.glob(f"{name}.ask-*")):
                with suppress(OSError):
                    left.unlink(missing_ok=True)

    def _file(self, kind: str, name: str = "") -> Path:
        return self._folder / f"{name or self._name}.{kind}"

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        handle, new = tempfile.mkstemp(prefix=".new-", dir=self._folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(content, file)
            os.replace(new, path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise


def _row(name: str, told: Mapping[str, Any]) -> Row | None:
    """Return what a process says that it holds; None where it is torn, or of another version."""
    try:
        row = Row(name=name, **told)
    except TypeError:
        return None
    texts, numbers = (row.label, row.device), (row.pid, row.bytes)
    whole = all(isinstance(each, str) for each in texts) and all(type(each) is int for each in numbers)
    return row if whole else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parsed(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}  # gone between the look and the reading
    return content if isinstance(content, dict) else {}
