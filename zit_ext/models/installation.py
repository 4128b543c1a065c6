"""What this program runs on, as far as it may change bits, told without importing torch.

Interpreter, installed packages, graphics devices and drivers, CPU, and the variables that numerical
libraries read. Quick, and nothing here raises: what cannot be read is told as absent.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .. import __version__
from ..fingerprint import canonical_bytes
from ..records import FieldValue
from . import machine
from .package_sources import read_beside, source_of

_VARIABLES = (
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
    "NVIDIA_",
    "PYTORCH_",
    "TORCH_",
    "TORCHINDUCTOR_",
    "TRITON_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "ROCBLAS_",
    "HIPBLASLT_",
    "MIOPEN_",
    "ZE_",
    "SYCL_",
    "DIFFUSERS_ATTN_",
    "XFORMERS_",
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
)
_PLACES_AND_NOISE = ("_DIR", "_PATH", "_HOME", "_ROOT", "_CACHE", "_VERBOSE", "_LOGS", "_LOG", "_LOG_LEVEL")
_HOW_CUDA_IS_FOUND = frozenset({"CUDA_MODULE_LOADING", "PYTORCH_NVML_BASED_CUDA_CHECK"})
"""Set by torch and the webui themselves, once they have looked for a GPU: programs differ, numbers do not."""

_RENDERING = frozenset(
    {"torch", "diffusers", "transformers", "tokenizers", "accelerate", "peft", "safetensors"}
)

Facts = Mapping[str, FieldValue]


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that may change numbers; not those that name folders or talk.

    >>> variables({"OMP_NUM_THREADS": "2", "CUDA_HOME": "/cuda", "PATH": "/bin", "MKL_VERBOSE": "1"})
    {'OMP_NUM_THREADS': '2'}
    """
    return {
        name: environ[name]
        for name in sorted(environ)
        if name.startswith(_VARIABLES)
        and not name.endswith(_PLACES_AND_NOISE)
        and name not in _HOW_CUDA_IS_FOUND
    }


def installation(label: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the identity of what this program runs on: 64 hex digits.

    The first call takes some milliseconds. Devices and CPU are looked at once; changes of `sys.path`,
    of the variables and of the CPUs that this process may use are seen at the next call.
    """
    facts = {
        "label": label,
        "zit_ext": __version__,
        "machine": _machine_digest(),
        "packages": _packages_digest(tuple(sys.path)),
        "cpus": machine.usable_cpus(),
        "variables": variables(environ),
    }
    return hashlib.sha256(_spelled(facts)).hexdigest()


@functools.cache
def _machine_digest() -> str:
    return hashlib.sha256(
        _spelled({**interpreter(), "cpu": machine.cpu(), "devices": list(machine.devices())})
    ).hexdigest()


@functools.lru_cache(maxsize=8)
def _packages_digest(path: tuple[str, ...]) -> str:
    # Packages that are installed while a program runs do not change what it has imported.
    return hashlib.sha256(_spelled({"packages": list(packages(path))})).hexdigest()


def interpreter() -> Facts:
    """Return which Python this is, and on which system."""
    return {
        "version": sys.version,
        "implementation": sys.implementation.cache_tag,
        "platform": sys.platform,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "libc": _libc(),
        "machine": os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE"),
    }


def packages(path: Iterable[str], prefix: str = sys.prefix) -> Iterator[FieldValue]:
    """Yield name-version, time and size of each distribution on this path, in the order of import.

    The time and the size of its list of files tell a rebuilt package of the same version.
    """
    for folder in [*path, str(Path(prefix) / "conda-meta")]:
        found = []
        try:
            with os.scandir(folder or ".") as entries:
                for entry in entries:
                    if entry.name.endswith((".dist-info", ".egg-info", ".egg-link")) or (
                        folder.endswith("conda-meta") and entry.name.endswith(".json")
                    ):
                        found.append([entry.name, *_written(entry), *_source(entry)])
        except OSError:
            continue  # a zip file, or a folder that is not there
        if found:
            yield sorted(found)


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None  # not a system with this library


def _written(entry: os.DirEntry[str]) -> list[int]:
    """Return when the list of a distribution's files was written, in ns, and how long it is."""
    for place in (os.path.join(entry.path, "RECORD"), entry.path):  # noqa: PTH118 - hundreds of them
        try:
            found = os.stat(place)  # noqa: PTH116 - likewise
        except OSError:
            continue
        return [found.st_mtime_ns, found.st_size]
    return []


def _source(entry: os.DirEntry[str]) -> list[str]:
    """Return what tells the code of a package that renders apart, where its version does not."""
    if entry.name.partition("-")[0].lower() not in _RENDERING or not entry.name.endswith(".dist-info"):
        return []
    source = source_of(read_beside(entry.path))
    return [] if source is None else [source]


def _spelled(facts: Facts) -> bytes:
    return canonical_bytes(_plain(facts))


def _plain(value: FieldValue) -> FieldValue:
    """Return the value with every text as bytes: paths and variables may hold what is no Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Mapping):
        return [[_plain(name), _plain(value[name])] for name in sorted(value)]
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
