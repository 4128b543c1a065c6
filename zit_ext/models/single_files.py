"""Finds the parts of a Z-Image model among the files of its references. Knows no torch.

A model comes as a diffusers folder, as a folder of the single files that user interfaces load
(`z_image_turbo_bf16`, `qwen_3_4b`, `ae`, in any sub-folders), or as one such file with references
for the others. Every file that is used lies under a reference and is so part of its digest; nothing
is picked up from beside a file. Configs that no folder has come with this package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError, ModelMissingError
from ..json_texts import parsed
from ..records import TURBO, FileRef, ModelRef
from . import tokenizers
from . import zimage_checkpoints as checkpoints
from .tokenizers import FOLDER
from .weight_checks import SAVED_AS
from .weight_files import counts
from .zimage_checkpoints import TEXT_ENCODER, TRANSFORMER, VAE

PARTS = (TEXT_ENCODER, TRANSFORMER, VAE)
OFFICIAL = Path(__file__).with_name("zimage_turbo")
"""Our description of the official architecture: configs, no weights."""

_CLASSES: Mapping[str, str] = {
    "Qwen3Model": TEXT_ENCODER,
    "Qwen3ForCausalLM": TEXT_ENCODER,
    "ZImageTransformer2DModel": TRANSFORMER,
    "AutoencoderKL": VAE,
}
_DEPTH = 4  # folders below a reference in which single files are looked for


class TokenizerMissingError(ModelMissingError):
    """All weights are there, and no tokenizer."""


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Where one part's weights are."""

    part: str
    config: Path
    """The folder that holds its `config.json`."""
    files: tuple[Path, ...]
    single: bool
    """One file in anybody's layout, rather than a folder that diffusers or transformers saved."""
    identity: str
    """Of the reference it was found under, and of its description where that may lie elsewhere."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where everything is that a pipeline is made of."""

    parts: Mapping[str, PartFiles]
    tokenizer: Path
    scheduler: Path


@dataclass(slots=True)
class _Place:
    """What lies under one reference."""

    ref: FileRef
    path: Path
    folders: dict[str, Path] = field(default_factory=dict)
    """Saved parts, and descriptions: folders with configs."""
    singles: dict[str, Path] = field(default_factory=dict)


def find(model: ModelRef) -> ModelFiles:
    """Return the files of the model, each looked at. Raises ModelMissingError or ModelError.

    The references of text encoder and VAE win over what the model's own folder holds.
    """
    main = _look(model)
    replaced = {
        part: _look(ref)
        for part, ref in ((TEXT_ENCODER, model.text_encoder), (VAE, model.vae))
        if ref is not None
    }
    places = [*replaced.values(), main]
    parts = {part: _part(part, replaced.get(part, main), places) for part in PARTS}
    if model.tokenizer is not None:
        tokenizer = tokenizers.folder_of(model.tokenizer.path or Path(model.tokenizer.source))
    else:
        tokenizer = next((each.folders[FOLDER] for each in places if FOLDER in each.folders), None)
    if tokenizer is None:
        raise _no_tokenizer(parts[TEXT_ENCODER].files[0])
    scheduler = main.folders.get("scheduler", OFFICIAL / "scheduler")
    return ModelFiles(parts, tokenizer, scheduler)


def _look(ref: FileRef) -> _Place:
    path = ref.path or Path(ref.source)
    place = _Place(ref, path)
    if path.is_file():
        _add_single(place, path)
        if not place.singles:
            raise ModelError(
                f"{path} holds no part of a Z-Image model; a transformer (z_image_turbo_bf16), "
                "a text encoder (qwen_3_4b) and a VAE (ae) are known"
            )
    elif path.is_dir():
        _look_into(place)
    else:
        raise ModelMissingError(ref.source, f"there is no {path}; give a folder or a .safetensors file")
    return place


def _look_into(place: _Place) -> None:
    index = _json(place.path / "model_index.json")
    pipeline = index.get("_class_name")
    if pipeline is not None and not str(pipeline).startswith("ZImage"):
        raise ModelError(f"{place.path} holds a {pipeline}, not a ZImagePipeline")
    own = _CLASSES.get(_class_of(place.path))
    if own is not None:
        place.folders[own] = place.path
    for name in PARTS:
        if (place.path / name / "config.json").is_file():
            place.folders[name] = place.path / name
    if (tokenizer := tokenizers.folder_of(place.path)) is not None:
        place.folders[FOLDER] = tokenizer
    if (place.path / "scheduler" / "scheduler_config.json").is_file():
        place.folders["scheduler"] = place.path / "scheduler"
    if pipeline is None:
        saved = {path for part in PARTS if (at := place.folders.get(part)) for path in _saved_weights(at)}
        for path in _single_files(place.path, _DEPTH):
            if path not in saved:
                _add_single(place, path)


def _add_single(place: _Place, path: Path) -> None:
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"{path}: weights are read from .safetensors files only")
    part = checkpoints.read(path).part
    if part is None:
        return
    if part in place.singles:
        raise ModelError(
            f"{place.path} holds two {part} files, {place.singles[part].name} and {path.name}; "
            "leave one of them there, or name the file itself"
        )
    place.singles[part] = path


def _single_files(folder: Path, depth: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not counts(path.name):
            continue  # it would be in no digest
        if path.is_dir() and depth > 1:
            yield from _single_files(path, depth - 1)
        elif path.suffix.lower() == ".safetensors" and path.is_file():
            yield path


def _part(part: str, place: _Place, places: list[_Place]) -> PartFiles:
    identity = place.ref.identity or place.ref.digest or place.ref.source
    folder = place.folders.get(part)
    if folder is not None and (saved := _saved_weights(folder)):
        return _looked_at(PartFiles(part, folder, saved, False, identity))
    single = place.singles.get(part)
    if single is None:
        raise _no_part(part, place)
    described = next(
        (each.folders[part] for each in [place, *places] if part in each.folders), OFFICIAL / part
    )
    # The description may be another model's: one file under two of them is two modules.
    return _looked_at(
        PartFiles(part, described, (single,), True, f"{identity}:{_digest_of_config(described)}")
    )


def _saved_weights(folder: Path) -> tuple[Path, ...]:
    """Return the weight files that diffusers or transformers saved there, in the order of their names."""
    for name in SAVED_AS:
        if shards := _json(folder / f"{name}.index.json").get("weight_map"):
            return tuple(folder / shard for shard in sorted({str(shard) for shard in shards.values()}))
        if (folder / name).is_file():
            return (folder / name,)
    if any(file.suffix in {".bin", ".pt", ".pth", ".ckpt"} for file in folder.iterdir()):
        raise ModelError(f"{folder} holds weights in a pickled format; only .safetensors files are loaded")
    return ()


def _looked_at(found: PartFiles) -> PartFiles:
    for path in found.files:
        checkpoints.check_numbers(checkpoints.read(path))
    return found


def _digest_of_config(folder: Path) -> str:
    return hashlib.sha256(json.dumps(_json(folder / "config.json"), sort_keys=True).encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise checkpoints.damaged(path, f"it is no JSON ({error})") from error
    return found if isinstance(found, dict) else {}


def _class_of(folder: Path) -> str:
    config = _json(folder / "config.json")
    return str(config.get("_class_name") or next(iter(config.get("architectures") or ()), ""))


def _no_part(part: str, place: _Place) -> ModelMissingError:
    remedies = {
        TRANSFORMER: "name a diffusers folder or a transformer file such as z_image_turbo_bf16.safetensors",
        TEXT_ENCODER: "name a text encoder (model.text_encoder), such as a folder with "
        "qwen_3_4b.safetensors, tokenizer.json and tokenizer_config.json",
        VAE: "name a VAE (model.vae), such as ae.safetensors",
    }
    return ModelMissingError(place.ref.source, f"there is no {part} in {place.path}; {remedies[part]}")


def _no_tokenizer(text_encoder: Path) -> TokenizerMissingError:
    return TokenizerMissingError(
        str(text_encoder),
        "no tokenizer is at hand, and a single file has none. Run `python -m zit_ext.models.download "
        f"--tokenizer {TURBO}` (11 MB), or name a folder with tokenizer.json and tokenizer_config.json "
        "as the model's tokenizer, or let model_dirs name the folder `models` of a ComfyUI, which brings one",
    )
