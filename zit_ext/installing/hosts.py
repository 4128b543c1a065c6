"""Recognises ComfyUI and the A1111 family by their files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .places import venv_python
from .trouble import SetupError

NAMES = {"comfyui": "ComfyUI", "a1111": "AUTOMATIC1111 (or a fork of it)"}
_FOLDERS = {"comfyui": "custom_nodes", "a1111": "extensions"}
# All of one row must be there. ComfyUI's second row is a base directory, as its desktop program keeps it.
_SIGNS = {
    "comfyui": (("main.py", "nodes.py", "comfy", "folder_paths.py"), ("custom_nodes", "models", "user")),
    "a1111": (("webui.py", "launch.py", "modules/scripts.py"),),
}
# What people name instead: the folder around it, as the portable packages have it.
_INSIDE = {"comfyui": ("ComfyUI",), "a1111": ("webui", "stable-diffusion-webui")}


@dataclass(frozen=True)
class Host:
    """A host on this machine. `folder` is where it looks for things like us."""

    kind: str
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / _FOLDERS[self.kind]


def recognise(kind: str, path: Path) -> Host:
    """Return the host at that path or just inside it. Raises SetupError that says what was looked for."""
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (a link given by a person is kept)
    for root in (path, *(path / name for name in _INSIDE[kind])):
        if _is(kind, root):
            return Host(kind, root)
    other = next((each for each in NAMES if each != kind and _is(each, path)), None)
    if other is not None:
        raise SetupError(
            f"{path} is {NAMES[other]}, not {NAMES[kind]}.", f"The command for it: install.py {other} PATH"
        )
    what = "is no folder" if not path.is_dir() else f"is not {NAMES[kind]}"
    rows = " or ".join(", ".join(row) for row in _SIGNS[kind])
    raise SetupError(f"{path} {what}.", f"Looked for {rows} in it. Name the folder that holds them.")


def any_at(path: Path) -> Host:
    """Return the host of either kind at that path. Raises SetupError."""
    for kind in NAMES:
        try:
            return recognise(kind, path)
        except SetupError:
            continue
    rows = "; ".join(f"{NAMES[kind]}: {', '.join(_SIGNS[kind][0])}" for kind in NAMES)
    raise SetupError(f"{path} is neither of the hosts.", f"Looked for {rows}.")


def around(script: Path, cwd: Path, environ: Mapping[str, str]) -> Host | None:
    """Return the host that runs this very script, None if there is none.

    `script` is as it was called: through a link, its real place lies outside the host.
    """
    for place in dict.fromkeys((script.parent, cwd)):
        for kind, folder in _FOLDERS.items():
            if place.parent.name == folder and _is(kind, place.parent.parent):
                return Host(kind, place.parent.parent)
    # A1111 stands in its own folder while it runs the scripts of its extensions.
    # They may lie elsewhere (--data-dir).
    extensions = _FOLDERS["a1111"]
    if _is("a1111", cwd) and (
        script.parent.parent.name == extensions
        or (cwd != script.parent and _holds(cwd / extensions, script.parent))
    ):
        return Host("a1111", cwd)
    # ComfyUI-Manager says where its host is; a link's name is lost when it stands in the folder itself.
    named = environ.get("COMFYUI_PATH")
    if named and _is("comfyui", Path(named)) and _holds(Path(named) / _FOLDERS["comfyui"], script.parent):
        return Host("comfyui", Path(named))
    return None


def python_of(host: Host) -> Path | None:
    """Return the interpreter that the host most likely runs with, None if it cannot be told."""
    embedded = host.root.parent / "python_embeded" / "python.exe"  # spelled so by ComfyUI's portable package
    candidates = [venv_python(host.root / name) for name in ("venv", ".venv")]
    system = host.root.parent / "system" / "python" / "python.exe"  # A1111's one-click package
    for candidate in (*candidates, embedded, system):
        if candidate.exists():
            return candidate
    return None


def _is(kind: str, root: Path) -> bool:
    return any(all((root / sign).exists() for sign in row) for row in _SIGNS[kind])


def _holds(folder: Path, project: Path) -> bool:
    real = os.path.realpath(project)
    try:
        return any(os.path.realpath(entry) == real for entry in folder.iterdir())
    except OSError:
        return False
