"""The Python that was provisioned for the model server: where it is, and whether it still stands.

Made by `provisioning`, which is not part of every copy of this package; this is what all of it reads.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import json_texts
from ..installing.stamp import base_python_exists
from ..settings import Settings

_RECORD = "python.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A Python that has rendered a picture, and what its model server has to be started with."""

    kind: str
    """own: as it was found; side: with packages of ours beside it; venv: made for it."""
    executable: str
    side: str = ""
    """The folder of packages that comes first on its path; empty if there is none."""
    digest: str = ""
    """Of all that it was made for. Another one: something has changed since."""
    made_at: float = 0.0
    """Unix seconds."""
    proof: Mapping[str, Any] = field(default_factory=dict)
    """What the picture was rendered with: device, versions of torch and diffusers, seconds."""

    @property
    def environ(self) -> dict[str, str]:
        """The variables that it has to be started with."""
        return environ_of(self.kind, self.side)

    def stands(self) -> bool:
        """Say whether it is still there: the interpreter, the one that it was made from, the packages."""
        executable = Path(self.executable)
        venv = executable.parent.parent
        return (
            executable.exists()
            and (not (venv / "pyvenv.cfg").exists() or base_python_exists(venv))
            and (not self.side or Path(self.side).is_dir())
        )


def folder_of(settings: Settings) -> Path:
    """Return the folder in which all of it is: outside of the program, whose updates remove what is new."""
    return settings.data_dir / "server-python"


def provisioned(settings: Settings) -> Provisioned | None:
    """Return what was provisioned and still stands; None if nothing was."""
    try:
        told = json_texts.parsed((folder_of(settings) / _RECORD).read_text(encoding="ascii"))
        if told.pop("format") != _FORMAT:
            return None
        found = Provisioned(**told)
        return found if found.stands() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_side(folder: str, settings: Settings) -> bool:
    """Say whether this is a folder of packages that was provisioned."""
    return bool(folder) and Path(folder).parent == folder_of(settings)


def remember(settings: Settings, made: Provisioned) -> None:
    """Have all model servers start on this one from now on. A reader sees the record before or this one."""
    folder = folder_of(settings)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump({"format": _FORMAT, **asdict(made)}, file, indent=1)
        os.replace(name, folder / _RECORD)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def environ_of(kind: str, side: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables to set for a Python of this kind. What we made sees nobody else's packages.

    >>> environ_of("side", "/side", {}), environ_of("own", "", {"PYTHONPATH": "/mine"})
    ({'PYTHONPATH': '/side'}, {})
    """
    if kind == "venv":
        return {"PYTHONPATH": side, "PYTHONHOME": "", "PYTHONNOUSERSITE": "1"}  # empty counts as absent
    if not side:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (side, environ.get("PYTHONPATH"))))}
