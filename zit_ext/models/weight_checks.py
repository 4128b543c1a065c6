"""Tells whether weights are whole, before anybody loads them. Reads a few small files and some headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError, ModelMissingError
from ..json_texts import parsed
from .weight_files import SeenFile
from .weight_remedies import ONLY_SAFETENSORS, SUFFIX
from .zimage_checkpoints import read

SAVED_AS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""The names under which diffusers and transformers save the weights of a part."""

_INDEX = ".safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".onnx")


def check(source: str, path: Path, files: Sequence[SeenFile]) -> None:
    """Raise where these files cannot be all of a model's weights.

    ModelMissingError names what an incomplete download lacks; ModelError tells of weights in another
    format than safetensors, and of a file that is damaged as far as its header and its length show.
    """
    names = {each.name for each in files}
    if names == {""}:
        read(path)
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
    if "model_index.json" in names:
        # Only what is loaded by its name: a variant beside it that was cut off does no harm.
        shards = {shard for name in names for shard in _shards(path, name)}
        for name in sorted(shards | {each for each in names if each.rpartition("/")[2] in SAVED_AS}):
            read(path / name)


def _lacking_shards(path: Path, names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        yield from sorted(_shards(path, name) - names)


def _shards(path: Path, name: str) -> set[str]:
    """Return the files among which this index says that the weights are; none if it is no index."""
    if not name.endswith(_INDEX):
        return set()
    folder = name.rpartition("/")[0]
    shards = _json(path / name).get("weight_map")
    return (
        {f"{folder}/{shard}".lstrip("/") for shard in shards.values()} if isinstance(shards, dict) else set()
    )


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
        found = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}; delete it and download the model again") from error
    return found if isinstance(found, dict) else {}
