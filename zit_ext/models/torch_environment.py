"""What a renderer is made of, as far as it changes bits: versions, device, flags, every "auto" resolved.

The record is plain values only. Its part "flags" is what a program may change while it runs:
`live_flags` reads that part again, in well under a millisecond.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ..records import FieldValue
from .package_sources import source_of

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "numpy",
    "safetensors",
    "pillow",
)

_PREFIXES = (
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "VECLIB_",
    "ATEN_",
    "DNNL_",
    "ONEDNN_",
    "CUBLAS_",
    "CUBLASLT_",
    "CUDNN_",
    "CUDA_",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "HIP_",
    "HSA_",
    "ROCBLAS_",
    "HIPBLASLT_",
    "MIOPEN_",
    "DIFFUSERS_ATTN_",
    "XFORMERS_",
)
_NO_NUMBERS = (
    "_DIR",
    "_PATH",
    "_HOME",
    "_ROOT",
    "_CACHE",
    "_VERBOSE",
    "_LOGS",
    "_LOG",
    "_LOG_LEVEL",
    "_DEBUG",
)


def record(resolved: Mapping[str, FieldValue], device: str) -> dict[str, FieldValue]:
    """Return the environment of a pipeline on this device; `resolved` is what its settings came to."""
    return {
        "versions": dict(_versions()),
        "device": dict(_device(device)),
        "cpu": dict(_cpu()),
        "variables": variables(os.environ),
        "resolved": dict(resolved),
        "flags": live_flags(),
    }


def live_flags() -> dict[str, FieldValue]:
    """Return the switches of torch that change bits and that a program may turn while it runs.

    Imports torch: ask only where it is imported already.
    """
    import torch
    from torch.backends import cuda, cudnn, mkldnn

    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "default_dtype": str(torch.get_default_dtype()),
        "matmul_precision": _asked(torch.get_float32_matmul_precision),
        "fp32_precision": {
            "matmul": _precision(cuda.matmul, "allow_tf32"),
            "cudnn": _precision(cudnn, "allow_tf32"),
            "cudnn_conv": _precision(getattr(cudnn, "conv", None), ""),
            "mkldnn": _precision(mkldnn, ""),
            "mkldnn_matmul": _precision(getattr(mkldnn, "matmul", None), ""),
            "mkldnn_conv": _precision(getattr(mkldnn, "conv", None), ""),
        },
        "reduced_precision_reductions": {
            "fp16": _plain(_read(cuda.matmul, "allow_fp16_reduced_precision_reduction")),
            "bf16": _plain(_read(cuda.matmul, "allow_bf16_reduced_precision_reduction")),
            "fp16_accumulation": _plain(_read(cuda.matmul, "allow_fp16_accumulation")),
        },
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": {
            "enabled": cudnn.enabled,
            "benchmark": cudnn.benchmark,
            "deterministic": cudnn.deterministic,
        },
        "mkldnn": mkldnn.enabled if hasattr(mkldnn, "enabled") else mkldnn.is_available(),
        "attention": {
            "flash": cuda.flash_sdp_enabled(),
            "memory_efficient": cuda.mem_efficient_sdp_enabled(),
            "math": cuda.math_sdp_enabled(),
            "cudnn": cuda.cudnn_sdp_enabled() if hasattr(cuda, "cudnn_sdp_enabled") else False,
        },
        "preferred_blas": _asked(getattr(cuda, "preferred_blas_library", None)),
    }


def torch_is_ready() -> bool:
    """Say whether torch is imported, all of it. Imports nothing.

    `live_flags` would wait for an import that another thread is in the middle of; and what is not
    imported yet, nobody has changed.
    """
    torch = sys.modules.get("torch")
    spec = getattr(torch, "__spec__", None)
    return torch is not None and not getattr(spec, "_initializing", False)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that may change numbers, not those that name folders.

    >>> variables({"OMP_NUM_THREADS": "2", "CUDA_HOME": "/cuda", "PATH": "/bin"})
    {'OMP_NUM_THREADS': '2'}
    """
    return {
        name: environ[name]
        for name in sorted(environ)
        if name.startswith(_PREFIXES) and not name.endswith(_NO_NUMBERS)
    }


@functools.cache
def _versions() -> Mapping[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            found[name] = None
            continue
        found[name] = package.version
        if (source := source_of(package.read_text)) is not None:
            found[f"{name}_source"] = source
    import torch

    found["torch_build"] = torch.version.git_version
    found["cuda"] = torch.version.cuda
    found["hip"] = torch.version.hip
    found["cudnn"] = str(torch.backends.cudnn.version()) if torch.backends.cudnn.is_available() else None
    return found


@functools.cache
def _device(device: str) -> Mapping[str, FieldValue]:
    import torch

    kind = device.split(":")[0]
    found: dict[str, FieldValue] = {"kind": kind}
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["name"] = properties.name
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["multiprocessors"] = properties.multi_processor_count
        found["driver"] = _driver()
    elif kind == "xpu":
        properties = torch.xpu.get_device_properties(device)
        found["name"] = properties.name
        found["driver"] = str(getattr(properties, "driver_version", ""))
    elif kind == "mps":
        found["name"] = platform.processor()
        found["system"] = platform.mac_ver()[0]
    return found


def _driver() -> str | None:
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        return None


@functools.cache
def _cpu() -> Mapping[str, FieldValue]:
    import torch

    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "system": platform.system(),
        "libc": "-".join(platform.libc_ver()),
    }


def _precision(backend: Any, old_name: str) -> FieldValue:
    """Return how a backend computes in float32. The old names raise where somebody used the new ones."""
    if _read(backend, "fp32_precision") is not None:
        return _asked(lambda: backend.fp32_precision)
    return _asked(lambda: getattr(backend, old_name)) if old_name else None


def _read(backend: Any, name: str) -> Any:
    """Return a switch of a backend, None if it has none. torch 2.1 raises AssertionError for those."""
    try:
        return getattr(backend, name, None)
    except (AssertionError, RuntimeError):
        return None


def _asked(question: Any) -> FieldValue:
    if question is None:
        return None
    try:
        return _plain(question())
    except RuntimeError as error:
        return f"undefined: {error}"[:80]


def _plain(value: Any) -> FieldValue:
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
