"""Versions, requirements and pins, read without a library. Only what this project's own files use."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def parsed(version: str) -> tuple[int, ...]:
    """Return the numbers of a version for comparing; what follows the release does not count.

    >>> parsed("2.13.0+cpu") >= parsed("2.5"), parsed("3.0rc1")
    (True, (3,))
    """
    match = re.match(r"\d+(?:\.\d+)*", version.strip())
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def plain(name: str) -> str:
    """Return a package's name in the one spelling in which names are compared.

    >>> plain("Huggingface_Hub")
    'huggingface-hub'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


class Requirement:
    """One requirement line: a name, `>=` or `==` a version, and perhaps a `python_version` marker."""

    def __init__(self, line: str) -> None:
        match = re.fullmatch(
            r"""\s*([A-Za-z0-9._-]+)\s*(>=|==)\s*([^\s;]+)\s*(?:;\s*python_version\s*(<|>=)\s*["']([\d.]+)["']\s*)?""",
            line,
        )
        if match is None:
            raise ValueError(f"not a requirement that install.py can read: {line!r}")
        self.line = line.strip()
        self.name = plain(match[1])
        self.operator, self.version = match[2], match[3]
        self._marker, self._marker_version = match[4], match[5]

    def applies(self, python: tuple[int, int] = sys.version_info[:2]) -> bool:
        """Return whether this line is meant for that Python.

        >>> Requirement("tomli>=2.0; python_version < '3.11'").applies((3, 10))
        True
        """
        if self._marker is None:
            return True
        older = python < parsed(self._marker_version)
        return older if self._marker == "<" else not older

    def met_by(self, version: str | None) -> bool:
        """Return whether an installed version is enough."""
        if version is None:
            return False
        if self.operator == "==":
            return parsed(version) == parsed(self.version)
        return parsed(version) >= parsed(self.version)


def requirements(path: Path, python: tuple[int, int] = sys.version_info[:2]) -> dict[str, Requirement]:
    """Return the lines of a requirements or constraints file that apply to that Python, by name."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    every = (Requirement(line) for line in lines if line)
    return {each.name: each for each in every if each.applies(python)}


def unmet(wanted: Iterable[Requirement], installed: Mapping[str, str]) -> list[Requirement]:
    """Return the requirements that the installed versions, by plain name, do not meet."""
    return [each for each in wanted if not each.met_by(installed.get(each.name))]
