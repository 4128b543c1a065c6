"""What a device's memory says of itself. Asks torch only if somebody has imported it already."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ..errors import SettingError


class DeviceMemory:
    """The memory of one device. Asked on the device's own thread."""

    def __init__(self, device: str, free: Callable[[], int] | None = None) -> None:
        self.device = device
        """The device as torch names it; "auto" until torch is there to say which that is."""
        self._asked = False
        self._known = False
        self._free = free
        self._before_stage = 0

    @property
    def is_ram(self) -> bool:
        """Whether the device computes in RAM: then nothing is gained by parking there."""
        return self.device == "cpu"

    def resolve(self) -> None:
        """Find out which device "auto" is, once torch is there."""
        if self._asked or "torch" not in sys.modules:
            return
        from .zimage_devices import resolve_device

        self._asked = True
        try:
            self.device = resolve_device(self.device)
            self._known = True
        except SettingError:
            # Opening a model tells the user. A plugin's pipeline may know devices that torch does not.
            return

    def free(self) -> int | None:
        """Return the bytes that weights and activations can still have; None if nobody knows.

        Memory that torch keeps for its next allocation counts as free.
        """
        if self._free is not None:
            return self._free()
        if not self._known or self.is_ram:
            return None
        from .zimage_devices import free_bytes

        cuda = self._cuda()
        spare = 0
        if cuda is not None:
            spare = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return (free_bytes(self.device) + int(spare)) or None

    def begin_stage(self) -> None:
        """Remember what is used now: by our weights, and by whoever else is in this process."""
        if (cuda := self._cuda()) is not None:
            cuda.reset_peak_memory_stats(self.device)
            self._before_stage = int(cuda.memory_allocated(self.device))

    def stage_bytes(self) -> int | None:
        """Return how far the use rose above that at its highest; None where it is not counted."""
        cuda = self._cuda()
        if cuda is None:
            return None
        return max(0, int(cuda.max_memory_allocated(self.device)) - self._before_stage)

    def _cuda(self) -> Any | None:
        if not self._known or not self.device.startswith("cuda"):
            return None
        return sys.modules["torch"].cuda


def available_ram() -> int | None:
    """Return the bytes of RAM that a program can still have, where the system tells (Linux does)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - a file of the system
            words = next(line.split() for line in file if line.startswith("MemAvailable:"))
        return int(words[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def total_ram() -> int | None:
    """Return the machine's RAM in bytes, where the system tells."""
    if sys.platform == "win32":
        return _windows_ram()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _windows_ram() -> int | None:
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009 (it exists on Windows only)
    found = kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024 if found else None
