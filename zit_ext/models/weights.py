"""Finds weights where people have them: a path, a Hugging Face id, or the name of a single file.

A name is looked up in the model folders of ComfyUI and A1111, never outside of them. Nothing here
reads weights or asks the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ..errors import ModelMissingError, RequestError
from . import hub_cache, weight_remedies
from .weight_remedies import SUFFIX


class Kind(str, Enum):
    """What the weights are for; it decides in which sub-folders a name is looked up."""

    MODEL = "model"
    TEXT_ENCODER = "text encoder"
    VAE = "VAE"
    LORA = "LoRA"
    TOKENIZER = "tokenizer"


SUBFOLDERS: Mapping[Kind, tuple[str, ...]] = {
    Kind.MODEL: ("diffusion_models", "unet", "checkpoints", "diffusers", "Stable-diffusion"),
    Kind.TEXT_ENCODER: ("text_encoders", "clip", "text_encoder"),
    Kind.VAE: ("vae", "VAE"),
    Kind.LORA: ("loras", "Lora"),
    Kind.TOKENIZER: ("text_encoders", "tokenizers"),
}
"""Of ComfyUI's `models` folder and of A1111's."""

_OTHER_FORMATS = (".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft")
_DESCRIPTIONS = ("model_index.json", "config.json", "tokenizer.json")
"""What tells a folder with weights from one that only sorts them."""
_DEPTH = 5
_MAX_ENTRIES = 50_000

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]+):")


class _Match(NamedTuple):
    path: Path
    same_case: bool


def is_plugins(source: str) -> bool:
    """Tell whether this source names something that only a plugin knows, such as "vits:tiny".

    >>> is_plugins("vits:tiny"), is_plugins("C:/models/zit"), is_plugins("Tongyi-MAI/Z-Image-Turbo")
    (True, False, False)
    """
    scheme = _SCHEME.match(source)
    return scheme is not None and scheme[1].lower() not in ("http", "https", "file")


def find(
    source: str,
    *,
    kind: Kind = Kind.MODEL,
    model_dirs: Sequence[Path] = (),
    offline: bool = False,
    field: str = "model",
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return the folder or file that holds these weights; a LoRA is always a file.

    A path that exists wins, then a downloaded Hugging Face id, then a file of that name. Raises
    ModelMissingError, which says what to do, and RequestError (about `field`) for a name that two
    files have, or for a file in another format than safetensors.
    """
    try:
        found = (
            _at_path(source, field)
            or _downloaded(source, environ)
            or _by_name(source, kind, model_dirs, field)
        )
    except ValueError as error:  # a NUL, half a character
        raise RequestError(field, source, f"no file can have this name ({error})") from error
    except OSError as error:
        raise RequestError(field, source, f"this place cannot be read: {error}") from error
    if found is None:
        remedy = weight_remedies.for_missing(
            source, SUBFOLDERS[kind][0], kind.value, model_dirs, offline, environ
        )
        raise ModelMissingError(source, remedy)
    return _lora_file(found, field, source) if kind is Kind.LORA else found


def _at_path(source: str, field: str) -> Path | None:
    if re.match(r"(https?|file):", source, re.IGNORECASE):
        raise RequestError(field, source, weight_remedies.for_address(source))
    path = Path(os.path.expanduser(source))  # noqa: PTH111 - a home that is not there is no error of Python's
    if path.is_dir():
        return path.absolute()
    if path.is_file():
        if path.suffix.lower() != SUFFIX:
            raise RequestError(field, source, weight_remedies.ONLY_SAFETENSORS)
        return path.absolute()
    with_suffix = path.with_name(path.name + SUFFIX) if path.name else path
    return with_suffix.absolute() if with_suffix.is_file() else None


def _downloaded(source: str, environ: Mapping[str, str]) -> Path | None:
    return hub_cache.snapshot(source, environ) if hub_cache.is_repo_id(source) else None


def _by_name(source: str, kind: Kind, model_dirs: Sequence[Path], field: str) -> Path | None:
    name = source.replace("\\", "/")
    parts = name.split("/")
    # A name never leads out of the folders that it is looked up in.
    if _DRIVE.match(source) or any(part in ("", ".", "..") or part.startswith("~") for part in parts):
        return None
    if name.lower().endswith(SUFFIX):
        name = name[: -len(SUFFIX)]
    matches = _distinct(_direct(name, kind, model_dirs))
    if not matches:
        found = list(_below(name, kind, model_dirs))
        matches = _distinct([each.path for each in found if each.same_case] or [each.path for each in found])
        others = [each for each in matches if each.suffix.lower() != SUFFIX]
        matches = [each for each in matches if each not in others]
        if others and not matches:
            raise RequestError(field, source, f"{others[0]}: {weight_remedies.ONLY_SAFETENSORS}")
    if len(matches) > 1:
        raise RequestError(
            field,
            source,
            f"several files have this name: {' and '.join(map(str, matches[:3]))}; "
            "give the path of the one that you mean",
        )
    return matches[0].absolute() if matches else None


def _direct(name: str, kind: Kind, model_dirs: Sequence[Path]) -> Iterator[Path]:
    for root in model_dirs:
        for folder in (*(root / sub for sub in SUBFOLDERS[kind]), root):
            if (file := folder / f"{name}{SUFFIX}").is_file():
                yield file
            if kind is not Kind.LORA and any((folder / name / each).is_file() for each in _DESCRIPTIONS):
                yield folder / name


def _below(name: str, kind: Kind, model_dirs: Sequence[Path]) -> Iterator[_Match]:
    """Look further down, and with other letters' case: hosts list sub-folders, workflows travel."""
    for root in model_dirs:
        for sub in SUBFOLDERS[kind]:
            for path in _files_below(root / sub, _DEPTH):
                stem, suffix = os.path.splitext(path.relative_to(root / sub).as_posix())  # noqa: PTH122 - of a text
                if suffix.lower() != SUFFIX and suffix.lower() not in _OTHER_FORMATS:
                    continue
                if f"/{stem}".casefold().endswith(f"/{name}".casefold()):
                    yield _Match(path, f"/{stem}".endswith(f"/{name}"))


def _files_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda each: each.name)[:_MAX_ENTRIES]
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if depth > 1:
                yield from _files_below(Path(entry.path), depth - 1)
        elif entry.is_file():
            yield Path(entry.path)


def _distinct(paths: Sequence[Path] | Iterator[Path]) -> list[Path]:
    """Return each file once: links to one file, or VAE and vae on a disk that tells no case, are one."""
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        seen = path.stat()
        found.setdefault((seen.st_dev, seen.st_ino), path)
    return list(found.values())


def _lora_file(found: Path, field: str, source: str) -> Path:
    if found.is_file():
        return found
    files = sorted(
        each
        for each in found.iterdir()
        if each.suffix.lower() == SUFFIX and not each.name.startswith(".") and each.is_file()
    )
    if len(files) == 1:
        return files[0]
    raise RequestError(field, source, f"{found} holds {len(files)} LoRA files; name the one that you mean")
