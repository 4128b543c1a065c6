"""Where Hugging Face's tools keep what they downloaded. Reads the layout, imports none of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_ID = re.compile(r"[A-Za-z0-9_](?:[\w.-]{0,94}\w)?/[A-Za-z0-9_](?:[\w.-]{0,94}\w)?", re.ASCII)
_TRUE = frozenset({"1", "on", "yes", "true"})


def is_repo_id(source: str) -> bool:
    """Tell whether this reads like a Hugging Face id.

    >>> is_repo_id("Tongyi-MAI/Z-Image-Turbo"), is_repo_id("ae"), is_repo_id("loras/ink.safetensors")
    (True, False, False)
    """
    return (
        _ID.fullmatch(source) is not None
        and "--" not in source
        and ".." not in source
        and not source.lower().endswith((".safetensors", ".git"))
    )


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the downloads, whether or not it exists.

    >>> cache_folder({"HF_HOME": "/hf"}).as_posix()
    '/hf/hub'
    """
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if given := environ.get(name):
            return _expanded(given)
    if given := environ.get("HF_HOME"):
        return _expanded(given) / "hub"
    return _expanded(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def repository(repo_id: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of one repository in the cache, whether or not it exists."""
    return cache_folder(environ) / f"models--{repo_id.replace('/', '--')}"


def snapshot(repo_id: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder with the files of the repository as they were last downloaded, if they were."""
    folder = repository(repo_id, environ)
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return None
    found = folder / "snapshots" / commit
    try:
        return found if found.is_dir() else None
    except OSError:
        return None  # another user's


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the user forbade Hugging Face's tools to ask the network."""
    said = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.lower() in _TRUE


def _expanded(given: str) -> Path:
    # As Hugging Face's own tools do it: the home of somebody who is not there stays as it is written.
    return Path(os.path.expanduser(os.path.expandvars(given))).absolute()  # noqa: PTH111
