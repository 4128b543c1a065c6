"""Which code a package holds where its version does not tell: installed from Git, an archive or a folder.

`0.39.0.dev0` is the version of hundreds of commits, and people install diffusers from Git. What an index
gives needs nothing of this: there a version is one code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..json_texts import parsed

_NOT_IMPORTED = frozenset({"tests", "docs", "examples", "benchmarks", "build", "node_modules", "__pycache__"})

ReadText = Callable[[str], "str | None"]
"""Returns a file of the package's `.dist-info` as text, None if it is not there."""


def source_of(read: ReadText) -> str | None:
    """Return what tells this code from another one of the same version; None for a package of an index.

    The commit that it was built from; of a folder that is imported in place (`pip install -e`) names,
    times and sizes of its programs; else the digests of what was installed. Raises nothing.
    """
    try:
        text = read("direct_url.json")
        if text is None:
            return None
        told = parsed(text)
        if commit := _mapping(told, "vcs_info").get("commit_id"):
            return f"commit {commit}"
        if _mapping(told, "dir_info").get("editable"):
            return f"folder {_digest(_programs(_folder_of(told['url'])))}"
        return f"installed {_digest([read('RECORD') or text])}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unknown {type(error).__name__}"


def read_beside(info: str) -> ReadText:
    """Return what reads the files of this `.dist-info` folder."""

    def read(name: str) -> str | None:
        try:
            return Path(info, name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    return read


def _folder_of(url: str) -> Path:
    """Return the folder of a file URL. Raises ValueError where it is not there."""
    path = unquote(urlsplit(url).path)
    folder = Path(path.lstrip("/") if os.name == "nt" else path)  # file:///C:/code
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    return folder


def _mapping(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _programs(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each[0] != "." and each not in _NOT_IMPORTED)
        for name in sorted(names):
            if name.endswith((".py", ".so", ".pyd")):
                path = Path(place, name)
                seen = path.stat()
                yield f"{path.relative_to(folder).as_posix()} {seen.st_size} {seen.st_mtime_ns}"


def _digest(words: Any) -> str:
    digest = hashlib.sha256()
    for each in words:
        digest.update(f"{each}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
