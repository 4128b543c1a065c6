"""What to do where ComfyUI's Python lacks what renders: the command that adds it, or the model server."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from zit_ext import Settings
from zit_ext.errors import ModelError, PackageMissingError
from zit_ext.installing.children import as_typed
from zit_ext.model_server.adding import Addition, addition

from . import host

HOME = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def told_how_to_add(settings: Settings) -> Iterator[None]:
    """Have whoever lacks a package in here told what to do. On the host's thread: pip is asked."""
    try:
        yield
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
