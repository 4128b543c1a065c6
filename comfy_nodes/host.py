"""All that we use of ComfyUI, in one place. When ComfyUI changes, this is the file to mend.

Which versions it was seen with: docs/hosts.md.
"""

from __future__ import annotations

import inspect
from io import BytesIO
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.v0_0_2 import ComfyExtension, io
from PIL import Image

from zit_ext import Settings, hookimpl
from zit_ext.runtime import Runtime, shared

__all__ = [
    "ComfyExtension",
    "engine",
    "interrupted",
    "io",
    "preview",
    "progress_bar",
    "raise_if_interrupted",
    "schema",
    "torch",
]

interrupted = model_management.processing_interrupted
raise_if_interrupted = model_management.throw_exception_if_processing_interrupted
progress_bar = comfy.utils.ProgressBar


def schema(**described: Any) -> io.Schema:
    """Return a node's schema, without what this version of ComfyUI does not know (search aliases)."""
    known = inspect.signature(io.Schema).parameters
    return io.Schema(**{name: value for name, value in described.items() if name in known})


def preview(png: bytes) -> tuple[str, Any, None]:
    """Return a picture as the host's progress bar takes it."""
    return "PNG", Image.open(BytesIO(png)), None


class HostPlugin:
    """What the host does for us: it puts its own models aside before ours move to the GPU."""

    @hookimpl
    def zit_make_room(self, bytes_needed: int) -> int:
        device = model_management.get_torch_device()
        before = model_management.get_free_memory(device)
        model_management.free_memory(bytes_needed, device)
        return max(0, int(model_management.get_free_memory(device) - before))


def engine() -> Runtime:
    """Return this process's engine.

    ComfyUI's memory manager cannot ask us to leave the GPU, so we leave it after each render: weights
    wait in RAM (`keep_alive = 0`) unless the user's settings say otherwise.
    """
    settings = Settings.load()
    if "keep_alive" not in settings.origin:
        settings = settings.with_values({"keep_alive": 0}, "ComfyUI")
    if "model_dirs" not in settings.origin:
        settings = settings.with_values({"model_dirs": [folder_paths.models_dir]}, "ComfyUI")
    return shared({"comfyui": HostPlugin()}, settings, label="comfyui")
