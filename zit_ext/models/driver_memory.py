"""Memory of each NVIDIA device as its driver reports it, where nvidia-ml-py is installed.

Counts what every program on the machine holds, and needs no torch.
Source: https://docs.nvidia.com/deploy/nvml-api/ (nvmlDeviceGetMemoryInfo, in bytes).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DriverMemory:
    """One device. Bytes."""

    index: int
    """The driver's number: torch may count otherwise, if CUDA_VISIBLE_DEVICES is set."""
    name: str
    total: int
    used: int
    free: int


class Driver:
    """Asks the driver. Any thread; a millisecond."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._asked = False
        self._lock = threading.Lock()

    def memory(self) -> list[DriverMemory]:
        """Return the memory of each device; nothing where there is no such driver, or no way to ask it."""
        with self._lock:
            if not self._asked:
                self._asked = True
                self._nvml = _opened()
            if self._nvml is None:
                return []
            found = []
            try:
                for index in range(self._nvml.nvmlDeviceGetCount()):
                    found.append(self._of(index))
            except self._nvml.NVMLError as error:  # such as a device that fell off the bus
                log.debug("the driver does not tell of all devices: %s", error)
            return found

    def _of(self, index: int) -> DriverMemory:
        device = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = self._nvml.nvmlDeviceGetName(device)
        memory = self._nvml.nvmlDeviceGetMemoryInfo(device)
        return DriverMemory(
            index,
            name.decode(errors="replace") if isinstance(name, bytes) else str(name),
            int(memory.total),
            int(memory.used),
            int(memory.free),
        )


def _opened() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no NVIDIA driver answers: %s", error)
        return None
    return pynvml
