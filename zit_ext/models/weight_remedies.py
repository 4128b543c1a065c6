"""What to do about weights that are not there, in words for people."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import hub_cache

SUFFIX = ".safetensors"

ONLY_SAFETENSORS = (
    "weights are read from .safetensors files only (other formats can carry programs, or are not read by "
    "diffusers); look for a .safetensors file of the same weights"
)

_KNOWN_FILES: Mapping[str, str] = {
    "z_image_turbo_bf16": "split_files/diffusion_models/z_image_turbo_bf16.safetensors",
    "qwen_3_4b": "split_files/text_encoders/qwen_3_4b.safetensors",
    "ae": "split_files/vae/ae.safetensors",
}
_KNOWN_REPOSITORY = "Comfy-Org/z_image_turbo"


def for_missing(
    source: str,
    subfolder: str,
    what: str,
    model_dirs: Sequence[Path],
    offline: bool,
    environ: Mapping[str, str],
) -> str:
    """Return what to do where nothing was found under this source."""
    if hub_cache.is_repo_id(source) and what != "LoRA":
        return for_repository(source, offline, environ)
    if re.match(r"[/\\~.]|[A-Za-z]:[\\/]", source):
        return f"there is no such file or folder; give the path of a folder or of a {SUFFIX} file"
    name = source if source.lower().endswith(SUFFIX) else source + SUFFIX
    if model_dirs:
        places = " or ".join(str(folder / subfolder) for folder in model_dirs)
        where = f"put {name} into {places}"
    else:
        where = (
            f"no model folders are known: set model_dirs (or ZIT_MODEL_DIRS) to a folder such as "
            f"ComfyUI/models, with {name} in its sub-folder {subfolder}"
        )
    return f"{where}, or give the path of the {what}'s {_origin(name)}"


def for_repository(repo_id: str, offline: bool, environ: Mapping[str, str]) -> str:
    """Return what to do where a Hugging Face id was not downloaded yet."""
    command = f"`python -m zit_ext.models.download {repo_id}`"
    place = hub_cache.cache_folder(environ)
    if offline or hub_cache.is_offline(environ):
        folder = hub_cache.repository(repo_id, environ).name
        return (
            f"it was not downloaded, and the network may not be asked (offline is set). Run {command} where "
            f"it may be, or on another machine, and copy the folder {folder} from there into {place}; "
            "or name a folder that holds the model"
        )
    return f"it was not downloaded yet; run {command} (it goes into {place}), or name a folder"


def for_address(address: str) -> str:
    """Return what to give in place of a web address.

    >>> for_address("https://huggingface.co/Tongyi-MAI/Z-Image-Turbo/tree/main")
    'give the Hugging Face id instead: Tongyi-MAI/Z-Image-Turbo'
    """
    found = re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)", address)
    if found is not None and hub_cache.is_repo_id(found[1]):
        return f"give the Hugging Face id instead: {found[1]}"
    return "give a path, a Hugging Face id or the name of a file; addresses are not read"


def _origin(name: str) -> str:
    known = _KNOWN_FILES.get(name[: -len(SUFFIX)].lower())
    return f"file (it is {known} in {_KNOWN_REPOSITORY} on Hugging Face)" if known else "file or folder"
