"""What is known of the project's environment without starting it: a stamp that is written last.

An environment is ready if its stamp says that everything was installed, for these requirements, this
Python and this place, and what was installed is still there. Anything else is a reason to look closer.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .places import Project, site_packages
from .versions import plain

_FORMAT = "1"


def digest(project: Project) -> str:
    """Return what the environment has to be made for, as one digest."""
    parts = (
        _FORMAT.encode(),
        str(project.root).encode("utf-8", "surrogateescape"),
        f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}".encode(),
        project.pyproject.read_bytes(),
        project.constraints.read_bytes(),
    )
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


def read(project: Project) -> Mapping[str, Any]:
    """Return the stamp, empty if there is none that can be read."""
    try:
        value = json.loads(project.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write(project: Project, stamp: Mapping[str, Any]) -> None:
    """Write the stamp: whole or not at all."""
    new = project.stamp.with_suffix(".new")
    new.write_text(json.dumps(dict(stamp), indent=1) + "\n", encoding="utf-8")
    os.replace(new, project.stamp)


def installed(venv: Path) -> dict[str, str]:
    """Return the version of each package in an environment, by its plain name.

    >>> installed(Path("nowhere"))
    {}
    """
    folder = site_packages(venv)
    return {} if folder is None else installed_in(folder)


def installed_in(folder: Path) -> dict[str, str]:
    """Return the same for one folder of packages. Reads the names of its entries only: quick."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (no Path for each of hundreds)
    except OSError:
        return {}
    records = (
        name.removesuffix(".dist-info").partition("-") for name in names if name.endswith(".dist-info")
    )
    return {plain(name): version for name, _, version in records}


def why_not_ready(project: Project, extras: Collection[str], torch_index: str | None) -> str | None:
    """Return what is missing, None if the environment can be used as it is. Reads files; starts nothing."""
    if not project.venv.is_dir():
        return "there is no environment yet"
    if not project.python.exists() or not base_python_exists(project.venv):
        return "its Python is gone"
    stamp = read(project)
    if not stamp.get("digest"):
        return "it was not finished"
    if stamp["digest"] != digest(project):
        return "the requirements, the Python or the folder changed"
    if missing := sorted(set(extras) - set(stamp["extras"])):
        return f"it lacks the packages for {', '.join(missing)}"
    if torch_index is not None and torch_index != stamp["torch_index"]:
        return "another index for torch was named"
    now = installed(project.venv)
    if gone := sorted(name for name, version in stamp["packages"].items() if now.get(name) != version):
        return f"packages were changed by hand: {', '.join(gone[:5])}"
    return None


def base_python_exists(venv: Path) -> bool:
    """Return whether the Python that an environment was made from is still there."""
    try:
        lines = (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    values = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    return "home" in values and Path(values["home"]).is_dir()
