"""Tells whether a folder of weights is complete, before anybody loads from it. Reads a few small files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError, ModelMissingError
from .weight_files import SeenFile
from .weight_remedies import ONLY_SAFETENSORS, SUFFIX

_INDEX = ".safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx")


def check(source: str, path: Path, files: Sequence[SeenFile]) -> None:
    """Raise where these files cannot be all of a model's weights.

    ModelMissingError names what an incomplete download lacks; ModelError tells of weights in another
    format than safetensors.
    """
    names = {each.name for each in files}
    if names == {""}:
        return
    lacking = [*_lacking_shards(path, names), *_lacking_parts(path, names)]
    if lacking:
        raise ModelMissingError(
            source,
            f"{path} is not complete: {', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''} "
            "not there; download it again (what is there is not fetched twice)",
        )
    if not any(name.lower().endswith(SUFFIX) for name in names):
        if any(name.lower().endswith(_PICKLED) for name in names):
            raise ModelError(f"{path} holds no .safetensors file: {ONLY_SAFETENSORS}")
        raise ModelMissingError(source, f"there are no weights in {path}; name a folder with {SUFFIX} files")


def _lacking_shards(path: Path, names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        if not name.endswith(_INDEX):
            continue
        folder = name.rpartition("/")[0]
        shards = _json(path / name).get("weight_map")
        if isinstance(shards, dict):
            wanted = {f"{folder}/{shard}".lstrip("/") for shard in shards.values()}
            yield from sorted(wanted - names)


def _lacking_parts(path: Path, names: set[str]) -> Iterator[str]:
    """Yield the parts that the description of a pipeline lists and that are not there."""
    if "model_index.json" not in names:
        return
    for part, described in sorted(_json(path / "model_index.json").items()):
        if part.startswith("_") or not isinstance(described, list) or None in described:
            continue
        own = [name for name in names if name.startswith(f"{part}/")]
        if not own:
            yield f"{part}/"
        elif f"{part}/config.json" in own and not any(
            name.lower().endswith((SUFFIX, *_PICKLED)) for name in own
        ):
            yield f"{part}/*{SUFFIX}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}; delete it and download the model again") from error
    return found if isinstance(found, dict) else {}
