"""Where and in which number format a pipeline computes; memory of devices. Resolves every "auto"."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import ModelError, OutOfMemoryError, RequestError, SettingError, ZitError

T = TypeVar("T")

log = logging.getLogger(__name__)


def resolve_device(name: str) -> str:
    """Return the device as torch names it: "auto" is cuda, xpu, mps or cpu, the first that is there.

    Raises SettingError for a device that this machine, or this torch, does not have.
    """
    import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        present[:0] = [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    if torch.cuda.is_available():
        present[:0] = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name == "auto":
        return present[0]
    wanted = f"{name}:0" if name in ("cuda", "xpu") else name
    if wanted not in present:
        raise SettingError("device", name, f"this machine's torch has {', '.join(present)}")
    return wanted


def resolve_dtype(name: str, device: str) -> str:
    """Return the number format's name: "auto" is bfloat16 where the GPU computes in it, else float32.

    float16 is never chosen: Z-Image's activations leave its range.
    """
    import torch

    if name != "auto":
        return name
    kind = device.split(":")[0]
    if kind == "cuda":
        # Emulated on GPUs before Ampere, slower there than float32.
        capable = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
        return "bfloat16" if capable else "float32"
    return "bfloat16" if kind in ("xpu", "mps") else "float32"


def resolve_attention(name: str) -> str:
    """Return the attention backend by diffusers' name: "auto" is its default, torch's own attention.

    Raises RequestError for a name that diffusers does not know, and for backends that fetch and run
    code from a hub.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName

    if name == "auto":
        name = os.environ.get("DIFFUSERS_ATTN_BACKEND", "native").lower()
    known = sorted(backend.value for backend in AttentionBackendName)
    allowed = [backend for backend in known if not backend.endswith("_hub")]
    if name in allowed:
        return name
    why = "it would run code fetched from a hub" if name in known else "diffusers knows no such backend"
    raise RequestError("model.attention", name, f"{why}; allowed are auto, {', '.join(allowed)}")


def set_attention(transformer: Any, backend: str) -> None:
    """Make the transformer compute attention with this backend, and leave all others as they are."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    # Setting a model's backend also makes it the default of every model in the process.
    before = _AttentionBackendRegistry._active_backend
    try:
        with quiet():
            transformer.set_attention_backend(backend)
    except (ImportError, RuntimeError, ValueError) as error:
        raise RequestError(
            "model.attention",
            backend,
            f"it does not run here ({error}); choose auto, or install what it needs",
        ) from error
    finally:
        _AttentionBackendRegistry._active_backend = before


@contextmanager
def plain_torch(device: str) -> Iterator[None]:
    """Compute as if nobody had changed this thread: no gradients, no autocast, no inference mode.

    Weights moved or made in inference mode (ComfyUI's prompt thread is in it) could not be touched
    outside of it afterwards.
    """
    import torch

    kind = device.split(":")[0]
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(kind, enabled=False):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings of diffusers and transformers for a while.

    Their switches are of the whole process: they are put back as they were.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    before = []
    for library in (diffusers_logging, transformers_logging):
        before.append((library, library.get_verbosity(), library.is_progress_bar_enabled()))
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def measured_bytes(module: Any) -> int:
    """Return the bytes of memory that the module's weights occupy, shared ones once."""
    storages = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def empty_cache(device: str) -> None:
    """Give memory that torch keeps for later back to the device, so that others see it as free."""
    import torch

    kind = device.split(":")[0]
    if kind in ("cuda", "xpu", "mps"):
        getattr(torch, kind).empty_cache()


def release(device: str) -> None:
    """Give memory that nobody uses any more back to the device and the operating system.

    Also what only hangs together in circles: tens of milliseconds.
    """
    gc.collect()
    empty_cache(device)
    if sys.platform == "linux":
        # A C library without it keeps the pages for the next load.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def free_bytes(device: str) -> int:
    """Return the device's free memory in bytes; 0 where it cannot be asked."""
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if kind == "xpu" and hasattr(torch.xpu, "mem_get_info"):
        return int(torch.xpu.mem_get_info(device)[0])
    if kind == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether the error means that memory ran out, on whatever device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def guarded(action: Callable[[], T], device: str) -> T:
    """Return what the action returns, with the libraries' errors made ours.

    OutOfMemoryError where memory runs out, ModelError for anything else that torch and diffusers
    raise. Their errors are logged and not kept as a cause: the frames hold on to the tensors that
    fill the memory. What a watcher raises passes through.
    """
    try:
        return action()
    except ZitError:
        raise
    except (RuntimeError, MemoryError, ValueError, TypeError, LookupError, AssertionError) as error:
        failure: ModelError
        if is_out_of_memory(error):
            failure = out_of_memory(error, device)
        else:
            log.exception("a stage of the render failed")
            failure = ModelError(f"the render failed on {device}: {type(error).__name__}: {error}"[:500])
    raise failure


def out_of_memory(error: BaseException, device: str) -> OutOfMemoryError:
    """Return our error for a library's, with the bytes that were asked for if its message tells."""
    return OutOfMemoryError(needed=_wanted_bytes(str(error)), free=free_bytes(device), device=device)


def _wanted_bytes(message: str) -> int:
    """
    >>> _wanted_bytes("Tried to allocate 2.50 GiB. GPU 0 has ...")
    2684354560
    >>> _wanted_bytes("you tried to allocate 4096 bytes")
    4096
    """
    match = re.search(r"allocate ([\d.]+) (bytes|[KMGT]i?B)", message)
    if match is None:
        return 0
    powers = {"b": 0, "K": 1, "M": 2, "G": 3, "T": 4}
    return int(float(match[1]) * 1024 ** powers[match[2][0]])
