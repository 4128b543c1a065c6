"""`install.py demo`: the environment, and then the main job in it."""

from __future__ import annotations

from collections.abc import Sequence

from .children import clean_environ, run
from .environment import Say, prepare
from .places import Project

EXTRAS = ("fast", "zimage")


def demo(
    project: Project, arguments: Sequence[str], *, torch_index: str | None, say: Say, verbose: bool
) -> int:
    """Set up what renders, run the demo with these arguments, and return its exit code."""
    python = prepare(project, EXTRAS, torch_index=torch_index, say=say, verbose=verbose)
    # Without the current folder on its path: another checkout may lie there. (Pythons before 3.11 add it.)
    environ = {**clean_environ(), "PYTHONSAFEPATH": "1"}
    return run([str(python), "-m", "zit_ext.demo", *arguments], environ=environ)
