"""What the machine is: its CPU, the CPUs that this process may use, its graphics devices and drivers.

Read from the system, without torch, in a few milliseconds. Nothing here raises: what cannot be read is
told as absent.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..records import FieldValue

Facts = Mapping[str, FieldValue]

_X86 = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
_OTHERS = ("Features", "CPU implementer", "CPU part", "CPU variant", "isa")  # ARM and RISC-V
_CPU_WORDS = frozenset((*_X86, *_OTHERS))
"""What /proc/cpuinfo calls the things that decide which instructions run."""


def usable_cpus() -> FieldValue:
    """Return the numbers of the CPUs that this process may use, or how many there are.

    Their numbers and not only their count: two threads of one core are another thing than two cores.
    """
    if hasattr(os, "sched_getaffinity"):
        return _quietly(lambda: sorted(os.sched_getaffinity(0)))
    return os.cpu_count()


def cpu() -> Facts:
    """Return which CPU this is and what it can do."""
    if sys.platform == "linux":
        # The first block is enough, and on a machine with hundreds of CPUs the file is long.
        lines = _text("/proc/cpuinfo", 16_384).partition("\n\n")[0].splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in _CPU_WORDS}
    if sys.platform == "darwin":
        return {"brand": _sysctl(b"machdep.cpu.brand_string"), "model": _sysctl(b"hw.model")}
    return {
        "identifier": os.environ.get("PROCESSOR_IDENTIFIER"),
        "features": [number for number in range(64) if _has_windows_feature(number)],
    }


def devices() -> Iterator[FieldValue]:
    """Yield what the system tells of its graphics devices and their drivers."""
    nvidia = list(_nvidia_in_proc()) or list(_nvidia_by_library())
    yield from nvidia
    for place in sorted(Path("/sys/class/drm").glob("card*/device")):
        words = [_text(str(place / name), 64).strip() for name in ("vendor", "device", "revision")]
        if any(words):
            yield ["drm", *words]
    for name in ("amdgpu", "i915", "xe"):
        if version := _text(f"/sys/module/{name}/version", 64).strip():
            yield [name, version]
    for place in sorted(Path("/sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        lines = _text(str(place), 8192).splitlines()
        yield ["kfd", *(line for line in lines if line.startswith(("gfx_target", "simd_count", "device_id")))]


def _nvidia_in_proc() -> Iterator[FieldValue]:
    if version := _text("/proc/driver/nvidia/version", 1024):
        yield ["nvidia", version.strip()]
        for place in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            lines = _text(str(place), 4096).splitlines()
            yield [
                "gpu",
                *(line for line in lines if line.startswith(("Model", "Bus Location", "Video BIOS"))),
            ]


def _nvidia_by_library() -> Iterator[FieldValue]:
    """Ask the driver's own library: on Windows and in WSL there is no /proc to read."""
    import ctypes  # slow to import, and seldom wanted

    names = ["nvml.dll"] if sys.platform == "win32" else ["libnvidia-ml.so.1"]
    if sys.platform == "linux" and not Path("/dev/dxg").exists():
        return
    library = next(
        (found for name in names if (found := _quietly(functools.partial(ctypes.CDLL, name)))), None
    )
    if library is None or _quietly(lambda: library.nvmlInit_v2()) != 0:
        return
    try:
        text, count = ctypes.create_string_buffer(96), ctypes.c_uint(0)
        if library.nvmlSystemGetDriverVersion(text, 96) == 0:
            yield ["nvidia", text.value.decode("ascii", "replace")]
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
                library.nvmlDeviceGetName(device, text, 96)
                yield ["gpu", index, text.value.decode("utf-8", "replace")]
    except (AttributeError, OSError):
        return
    finally:
        _quietly(lambda: library.nvmlShutdown())


def _has_windows_feature(number: int) -> bool:
    import ctypes

    return bool(_quietly(lambda: ctypes.CDLL("kernel32").IsProcessorFeaturePresent(number)))


def _sysctl(name: bytes) -> str | None:
    import ctypes

    text, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    done = _quietly(lambda: ctypes.CDLL(None).sysctlbyname(name, text, ctypes.byref(size), None, 0))
    return text.value.decode("ascii", "replace") if done == 0 else None


def _text(path: str, most: int) -> str:
    """Return the beginning of a small file of the system; "" if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - read once, without a buffer
            return (file.read(most) or b"").decode("utf-8", "replace")
    except OSError:
        return ""


def _quietly(question: Callable[[], FieldValue]) -> FieldValue:
    try:
        return question()
    except (AttributeError, OSError, ValueError):  # no such library, no such function in it
        return None
