"""Which Pythons this project runs on, and where the others on this machine are."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .children import ask

VERIFIED = ("3.10", "3.11", "3.12", "3.13")


def notice(version: tuple[int, int], implementation: str) -> str | None:
    """Return what to know about running on this Python, if there is something.

    >>> notice((3, 12), "cpython")
    >>> notice((3, 14), "cpython")
    'zit_ext is verified on Python 3.10 to 3.13; this is 3.14, which nobody has tried yet.'
    """
    if implementation != "cpython":
        return f"zit_ext is verified on CPython; this is {implementation}, for which torch has no builds."
    if version > (3, 13):
        shown = ".".join(map(str, version))
        return f"zit_ext is verified on Python 3.10 to 3.13; this is {shown}, which nobody has tried yet."
    return None


def found() -> dict[str, str]:
    """Return an interpreter for each verified version that this machine has, asked and not guessed."""
    own = "{}.{}".format(*sys.version_info[:2])
    answers = {own: sys.executable} if own in VERIFIED else {}
    for version in VERIFIED:
        for candidate in _candidates(version):
            if version in answers:
                break
            # Asked, because a version manager's placeholder on PATH may lead nowhere.
            said = ask(
                candidate, "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)", seconds=20
            )
            if said is not None and said.startswith(f"{version} "):
                answers[version] = said.partition(" ")[2]
    return answers


def _candidates(version: str) -> Iterator[str]:
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for home in sorted(pyenv.glob(f"{version}.*"), reverse=True):
        yield str(home / "bin" / "python")
    bare = version.replace(".", "")
    local = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    yield str(local / "Programs" / "Python" / f"Python{bare}" / "python.exe")
    for tool_cache in sorted(
        Path(os.environ.get("RUNNER_TOOL_CACHE") or "/nonexistent").glob(f"Python/{version}.*")
    ):
        yield from (
            str(place) for place in (*tool_cache.glob("*/bin/python"), *tool_cache.glob("*/python.exe"))
        )
