"""Which weights lie where the engine would look for them. Looks at names and sizes, reads no weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ModelError, ModelMissingError, RequestError
from .json_texts import parsed
from .models import hub_cache, zimage_checkpoints
from .models.resolver import Resolver
from .models.weight_files import look
from .models.weights import SUBFOLDERS, Kind
from .policy import with_defaults
from .records import LoraRef, Request
from .settings import Settings

DEPTH = 5
PIPELINE = "model_index.json"
SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class FoundWeights:
    """One file or folder of weights."""

    kind: Kind
    name: str
    """What `--model`, `--vae`, `--text-encoder` or `--lora` takes."""
    path: Path
    bytes: int | None
    """None where it cannot be read."""
    place: str
    """How it was found: in a model folder or in the Hugging Face cache."""
    pipeline: str = ""
    """The class that a folder in diffusers' layout names."""


def found_weights(settings: Settings, environ: Mapping[str, str]) -> list[FoundWeights]:
    """Return everything that is found by its name, each file once, in the order of looking."""
    found: dict[Path, FoundWeights] = {}
    for each in (*_in_model_dirs(settings), *_in_hub_cache(environ)):
        found.setdefault(each.path.resolve(), each)
    return list(found.values())


def zimage_models(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return the names of the Z-Image models that are found: what `--model` takes. Reads headers."""
    return list(
        dict.fromkeys(
            each.name
            for each in found_weights(settings, environ)
            if each.kind is Kind.MODEL and (each.pipeline.startswith("ZImage") or _is_transformer(each))
        )
    )


def _is_transformer(found: FoundWeights) -> bool:
    if found.pipeline or found.bytes is None:
        return False
    try:
        status = found.path.stat()
        return _part(found.path, status.st_size, status.st_mtime_ns) == zimage_checkpoints.TRANSFORMER
    except (ModelError, OSError):
        return False


@functools.lru_cache(maxsize=1000)
def _part(path: Path, _size: int, _mtime_ns: int) -> str | None:
    """Return which part of a Z-Image model a single file is; a file that did not change is read once."""
    return zimage_checkpoints.read(path).part


def source_of(digest: str, settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return where the single file with this digest is; files that nobody hashed yet are not known."""
    resolver = Resolver(settings)
    for each in found_weights(settings, environ):
        if not each.path.is_file():
            continue
        # As a LoRA: it may be any file, and nothing more is asked of it here.
        request = Request(prompt="", seed=0, loras=(LoraRef(source=str(each.path)),))
        try:
            resolved = resolver.resolve(with_defaults(request, settings))
        except (ModelError, RequestError):
            continue
        if resolved.loras[0].digest == digest:
            return str(each.path)
    return None


def _in_model_dirs(settings: Settings) -> Iterator[FoundWeights]:
    for root in settings.model_dirs:
        for kind, names in SUBFOLDERS.items():
            for folder in (root / name for name in names):
                for path in _weights_below(folder, DEPTH):
                    name = path.relative_to(folder).as_posix().removesuffix(SUFFIX)
                    yield FoundWeights(kind, name, path, _bytes(path), str(root), _pipeline(path))


def _weights_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and (path / PIPELINE).is_file():
            yield path
        elif entry.is_dir() and depth > 1:
            yield from _weights_below(path, depth - 1)
        elif entry.name.lower().endswith(SUFFIX) and entry.is_file():
            yield path


def _in_hub_cache(environ: Mapping[str, str]) -> Iterator[FoundWeights]:
    folder = hub_cache.cache_folder(environ)
    try:
        names = sorted(each.name for each in folder.iterdir() if each.name.startswith("models--"))
    except OSError:
        return
    for name in names:
        repo_id = name.removeprefix("models--").replace("--", "/", 1)
        snapshot = hub_cache.snapshot(repo_id, environ) if hub_cache.is_repo_id(repo_id) else None
        # Whatever else was downloaded (language models, data) is not ours to list.
        if snapshot is not None and (pipeline := _pipeline(snapshot)):
            yield FoundWeights(
                Kind.MODEL, repo_id, snapshot, _bytes(snapshot), "Hugging Face cache", pipeline
            )


def _bytes(path: Path) -> int | None:
    try:
        return sum(each.size for each in look(path))
    except (ModelError, ModelMissingError):
        return None


def _pipeline(path: Path) -> str:
    try:
        index = parsed((path / PIPELINE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    name = index.get("_class_name") if isinstance(index, dict) else None
    return name if isinstance(name, str) else ""
