"""Where things are: the project's files, its environment, and this user's data."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path


class Project:
    """A checkout of zit_ext and the files in it that setting up reads and writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.lock = root / ".venv.lock"
        self.stamp = self.venv / "zit_ext.json"
        self.pyproject = root / "pyproject.toml"
        self.constraints = root / "constraints" / "verified.txt"
        self.requirements = root / "requirements.txt"
        self.python = venv_python(self.venv)


def venv_python(venv: Path, platform: str = sys.platform) -> Path:
    """Return where the interpreter of a virtual environment is.

    >>> venv_python(Path("v"), "linux").as_posix(), venv_python(Path("v"), "win32").as_posix()
    ('v/bin/python', 'v/Scripts/python.exe')
    """
    return venv / "Scripts" / "python.exe" if platform == "win32" else venv / "bin" / "python"


def site_packages(venv: Path) -> Path | None:
    """Return the folder in which an environment keeps its packages, if there is one."""
    for candidate in (*sorted(venv.glob("lib/python3.*/site-packages")), venv / "Lib" / "site-packages"):
        if candidate.is_dir():
            return candidate
    return None


def user_data_dir(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the folder in which this user's programs keep what outlives an update of the project.

    >>> user_data_dir({"XDG_DATA_HOME": "/x"}, "linux").as_posix()
    '/x/zit_ext'
    """
    if given := environ.get("ZIT_DATA_DIR"):
        return Path(given).absolute()
    if platform == "win32":
        # Beside the cache folder of the same parent, not in it: clearing the cache must not touch this.
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "zit_ext_data"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zit_ext"
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "zit_ext"


def side_folder(data: Path) -> Path:
    """Return where the packages are that a webui lends from us; one folder for each kind of Python.

    The host's own environment is never written to: its script puts this folder at the end of sys.path.
    """
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}".replace("/", "_")
    return data / "side" / tag
