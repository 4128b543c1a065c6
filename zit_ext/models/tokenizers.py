"""Finds a tokenizer for text encoders that come as a single file: none of those has one. Knows no torch.

Looked for at two places, and nowhere else: in a download of the official model, and in ComfyUI, which ships
the tokenizer of Qwen (`comfy/text_encoders/qwen25_tokenizer`) and uses it for Z-Image's text encoder
(ComfyUI 0.3.75 to 0.33, comfy/text_encoders/z_image.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import ModelError
from ..records import TURBO
from . import hub_cache

FOLDER = "tokenizer"
"""Where a diffusers folder keeps it."""
FILES = ("tokenizer.json", "vocab.json")
"""What tells that a folder holds a tokenizer."""

_COMFYUIS = "qwen25_tokenizer"
_OFFICIAL_TEMPLATE = Path(__file__).with_name("zimage_turbo") / FOLDER / "chat_template.jinja"
"""Of the official model, for what Z-Image says to it: a prompt, with thinking allowed."""


def is_tokenizer(folder: Path) -> bool:
    """Tell whether this folder holds a tokenizer."""
    return any((folder / name).is_file() for name in FILES)


def folder_of(place: Path) -> Path | None:
    """Return the folder of the tokenizer that a reference brings along: `tokenizer` in it, or itself."""
    return next(filter(is_tokenizer, (place / FOLDER, place)), None)


def is_wanted(place: Path) -> bool:
    """Tell whether weights at this place need a tokenizer from elsewhere.

    A folder that diffusers saved is complete, or another kind of model.
    """
    return folder_of(place) is None and not (place / "model_index.json").is_file()


def check(place: Path) -> None:
    """Raise ModelError if a reference that is to bring a tokenizer does not."""
    if folder_of(place) is None:
        raise ModelError(f"{place} holds no tokenizer; name a folder with tokenizer.json or vocab.json")


def at_hand(model_dirs: Sequence[Path], environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of a tokenizer for Z-Image that is on this machine anyway, None if there is none."""
    return next(filter(_is_readable_one, _places(model_dirs, environ)), None)


def _is_readable_one(folder: Path) -> bool:
    try:
        return is_tokenizer(folder)
    except OSError:  # another user's, or a disk that fails: there may be another place
        return False


def _places(model_dirs: Sequence[Path], environ: Mapping[str, str]) -> Iterator[Path]:
    downloaded = hub_cache.snapshot(TURBO, environ)
    if downloaded is not None:
        yield downloaded / FOLDER
    for folder in model_dirs:
        yield folder.parent / "comfy" / "text_encoders" / _COMFYUIS


def chat_template(folder: Path) -> str | None:
    """Return the chat template that belongs to this tokenizer in place of its own; None leaves its own.

    ComfyUI's comes with Qwen 2.5's, which ComfyUI does not use: it writes prompts as the official one does.
    """
    return _OFFICIAL_TEMPLATE.read_text(encoding="utf-8") if folder.name == _COMFYUIS else None
