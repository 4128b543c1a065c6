"""What can be wrong with zit_ext here: settings, index, packages, plugins, weights. Only `deep` has torch."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from ..errors import ModelError, ModelMissingError, RequestError, StoreError, StoreVersionError
from ..models.digests import Digests
from ..models.resolver import Resolver
from ..models.weight_files import look
from ..plugins import Plugins
from ..policy import with_defaults
from ..records import Request
from ..results.store import ResultStore
from ..settings import Settings
from .checks import Check, State

RENDERING = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "huggingface_hub")
FASTER = ("xxhash", "fpng")


def cache_in_use(settings: Settings) -> Check:
    """Settings that switch the cache off are easily forgotten."""
    for name in ("disable_cache", "debug"):
        if getattr(settings, name):
            origin = settings.origin.get(name, "settings")
            return Check("cache", State.WARN, f"off: {name} is on ({origin})", f"set {name} to false")
    return Check("cache", State.OK, f"on; consistency {settings.consistency}, eviction {settings.eviction}")


def index(settings: Settings) -> Check:
    """Open the result store, as the engine does."""
    store = ResultStore(settings, score=lambda policy, entry, floor: floor)
    try:
        store.open()
    except StoreVersionError as error:
        return Check("index", State.FAIL, f"schema {error.found}; this version knows {error.known}",
                     "upgrade zit_ext, or set cache_dir to another folder")  # fmt: skip
    except StoreError as error:
        return Check("index", State.FAIL, str(error), "renders go on without the store; mend the folder")
    store.close()
    return Check("index", State.OK, "opens")


def packages() -> Iterator[Check]:
    """What renders, and what makes the rest faster."""
    found = {name: installed(name) for name in RENDERING}
    words = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    if all(found.values()):
        yield Check("rendering", State.OK, words)
    else:
        remedy = 'hits need none of it; to render, install "zit_ext[zimage]" or run install.py'
        yield Check("rendering", State.WARN, words, remedy)
    fast = {name: installed(name) for name in FASTER}
    words = ", ".join(f"{name} {version or 'missing'}" for name, version in fast.items())
    remedy = "" if all(fast.values()) else 'optional: "zit_ext[fast]" makes writes and checks faster'
    yield Check("speed", State.OK, words, remedy)


def installed(package: str) -> str | None:
    """Return the version of an installed package without importing it."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None


def device(settings: Settings, *, deep: bool) -> Check:
    """Guess the device without asking torch; `deep` will."""
    driver = Path("/proc/driver/nvidia/version")
    if settings.device != "auto":
        words = f"{settings.device}, by the settings"
    elif driver.exists():
        words = "an NVIDIA driver is there"
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        words = "Apple silicon"
    else:
        words = "no GPU was seen"
    return Check("device", State.OK, words if deep else f"{words}; --deep asks torch")


def plugins(found: Plugins) -> Check:
    """A plugin that is broken makes every request bypass the cache."""
    broken = [report for report in found.reports.values() if report.broken]
    if broken:
        words = "; ".join(f"{report.name} is broken ({report.broken})" for report in broken)
        remedy = "mend it, or set disabled_plugins; until then requests bypass the cache"
        return Check("plugins", State.FAIL, words, remedy)
    return Check("plugins", State.OK, ", ".join(sorted(found.reports)))


def model(settings: Settings) -> Check:
    """Look for the weights that the settings name."""
    try:
        resolved = Resolver(settings).resolve(with_defaults(Request(prompt="", seed=0), settings))
    except (ModelError, RequestError) as error:
        remedy = error.remedy if isinstance(error, ModelMissingError) else str(error)
        return Check("model", State.WARN, f"{settings.model} is not here", remedy)
    known = "hashed" if resolved.model.digest and not resolved.model.believed else "not hashed yet"
    path = str(resolved.model.path)
    where = path if path == settings.model else f"{settings.model}: {path}"
    if resolved.model.path and (damaged := Digests(settings.cache_dir).misnamed(look(resolved.model.path))):
        remedy = "delete it and download the model again: its pictures are those of damaged weights"
        return Check("model", State.WARN, f"{damaged[0]} does not hold what its name promises", remedy)
    return Check("model", State.OK, f"{where} ({known})")


def model_folders(settings: Settings) -> Iterator[Check]:
    """Look whether the folders are there in which weights are found by name."""
    missing = ", ".join(str(each) for each in settings.model_dirs if not each.is_dir())
    if missing:
        remedy = "mount or make it, or take it out of model_dirs: names are not found there"
        yield Check("model folders", State.WARN, f"not there: {missing}", remedy)
    elif settings.model_dirs:
        yield Check("model folders", State.OK, ", ".join(map(str, settings.model_dirs)))


def deep(settings: Settings) -> Iterator[Check]:
    """Import what renders, and see which device it takes. Takes seconds."""
    try:
        import torch
        from diffusers import ZImagePipeline
    except Exception as error:  # a broken installation fails in any way it likes
        words = f"{type(error).__name__}: {error}"
        yield Check("import", State.FAIL, words, 'install "zit_ext[zimage]" again, or run install.py')
        return
    yield Check("import", State.OK, f"torch {torch.__version__}, {ZImagePipeline.__name__} can be imported")
    if torch.cuda.is_available():
        name, free = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0]
        yield Check("torch device", State.OK, f"cuda: {name}, {free / 1e9:.1f} GB free")
    elif settings.device.startswith("cuda"):
        words = f"the settings ask for {settings.device}, and torch {torch.__version__} sees none"
        yield Check("torch device", State.FAIL, words, "install a CUDA build of torch, or set device to auto")
    else:
        yield Check("torch device", State.OK, f"cpu, {torch.get_num_threads()} threads")
