"""What a host runs: install.py without arguments. Quick, repeatable, and of the host nothing is changed.

ComfyUI (through its Manager, once): the requirements are in the host's Python already; what is missing of
these few small packages is added, without dependencies, and nothing that is there is touched.
A1111 (at every launch): the webui's Python is never written to, since it reverts what it does not know;
the packages lie in a folder of our own that the extension's script puts on its path.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import pip
from .hosts import Host
from .places import Project, side_folder
from .trouble import SetupError
from .versions import Requirement, requirements, unmet

_OPTIONAL = {"xxhash"}  # faster; the standard library does the same work


def set_up(host: Host, project: Project, data: Path) -> int:
    """Make sure that the host can import us, and return the exit code. Raises SetupError."""
    wanted = [each for name, each in requirements(project.requirements).items() if name not in _OPTIONAL]
    if host.kind == "comfyui":
        if missing := unmet(wanted, _versions(wanted, sys.path)):
            pip.install(Path(sys.executable), ["--no-deps", *map(_bare, missing)])
            print(f"zit_ext: {_names(missing)} installed; nothing else was touched.")
        return 0
    hosts_own = _versions(wanted, sys.path)
    if outdated := unmet([each for each in wanted if each.name in hosts_own], hosts_own):
        raise SetupError(
            f"this webui's Python has an older {_names(outdated)} than zit_ext can use.",
            f"Bring it up to date with `{sys.executable} -m pip install --no-deps {_names(outdated)}`.",
        )
    folder = side_folder(data)
    if missing := unmet(wanted, {**_versions(wanted, [str(folder)]), **hosts_own}):
        _fill(folder, project, wanted)
        print(f"zit_ext: {_names(missing)} put into {folder}; the webui's own packages are untouched.")
    return 0


def _versions(wanted: Iterable[Requirement], path: list[str]) -> dict[str, str]:
    installed: dict[str, str] = {}
    for requirement in wanted:
        # The first on the path is the one that an import finds.
        for each in importlib.metadata.distributions(name=requirement.name, path=path):
            installed.setdefault(requirement.name, each.version)
    return installed


def _fill(folder: Path, project: Project, needed: list[Requirement]) -> None:
    """Fill a folder beside it, then move that into place: who looks meanwhile sees all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # A launch waits for this: a machine that is offline should learn so soon.
        options = ["--target", str(new), "--no-deps", "--retries", "1", "--timeout", "20", "--quiet"]
        try:
            every = requirements(project.requirements).values()
            pip.install(Path(sys.executable), [*options, "--only-binary", ":all:", *map(_bare, every)])
        except SetupError:  # the optional ones are compiled, and not for every Python
            pip.install(Path(sys.executable), [*options, "--upgrade", *map(_bare, needed)])
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _bare(requirement: Requirement) -> str:
    return requirement.line.partition(";")[0].strip()


def _names(requirements: Iterable[Requirement]) -> str:
    return ", ".join(each.name for each in requirements)
