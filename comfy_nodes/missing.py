"""What to do where something is not there: a package in ComfyUI's Python, or the weights."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from zit_ext import Settings
from zit_ext.errors import ModelError, ModelMissingError, PackageMissingError
from zit_ext.installing.children import as_typed
from zit_ext.model_server.adding import Addition, addition
from zit_ext.models.hub_cache import is_repo_id
from zit_ext.records import TURBO

from . import host

HOME = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def told_what_to_do(settings: Settings) -> Iterator[None]:
    """Have whoever lacks a package or weights in here told what to do. On the host's thread: pip is asked."""
    try:
        yield
    except ModelMissingError as error:
        if not is_repo_id(error.source):
            raise
        raise ModelError(words_for_weights(error.source, host.model_names("diffusion_models"))) from error
    except PackageMissingError as error:
        found = addition(error.package, settings, host.interrupted)
        host.raise_if_interrupted()
        raise ModelError(words(error.package, found)) from error


def words(package: str, found: Addition) -> str:
    """Return what to do, for people."""
    lacks = f"rendering Z-Image needs {package}, which ComfyUI's Python lacks."
    if found.packages:
        also = f" (it also changes {', '.join(found.moved)})" if found.moved else ""
        return (
            f"{lacks} This command adds it{also}, and moves nothing of torch, transformers, huggingface_hub, "
            f"tokenizers, safetensors, numpy and pydantic; then start ComfyUI again:\n{found.command()}"
        )
    tried = "It cannot be added there" if found.certain else "Whether it can be added there is not known"
    return f"{lacks} {tried}: {found.why_not.rstrip('.')}. {_by_the_server()}"


def words_for_weights(source: str, files: Sequence[str]) -> str:
    """Return what to do where a Hugging Face id was not downloaded; `files` are the host's own models."""
    absent = f"the weights of {source} are not on this computer"
    command = as_typed([sys.executable, "-m", "zit_ext.models.download", source])
    download = f"download the model, with all that belongs to it: in {HOME}, run `{command}`"
    if source != TURBO:
        return f"{absent}: {download}"
    own = [each for each in files if re.search(r"z[-_ ]?image", each, re.IGNORECASE)]
    if own:
        return f"{absent}, but ComfyUI has {own[0]}: choose it in a Z-Image model node, linked to zit_model"
    return (
        f"{absent}: {download} (20 GB). Or use single files, from Comfy-Org/z_image_turbo on Hugging Face: "
        "z_image_turbo_bf16 in ComfyUI's models/diffusion_models, qwen_3_4b in models/text_encoders, ae in "
        "models/vae; and choose the first in a Z-Image model node, linked to zit_model"
    )


def _by_the_server() -> str:
    if importlib.util.find_spec("zit_ext.model_server.provisioning") is None:
        # The archive of ComfyUI's registry, which allows no installation.
        return (
            "Let the model server render: name a Python that has it in the setting server_python, and start "
            "ComfyUI again"
        )
    command = as_typed([sys.executable, "-m", "zit_ext.cli", "server", "provision"])
    return (
        f"Let the model server render: in {HOME}, run `{command}`, which makes a Python for it, and queue "
        "this again"
    )
