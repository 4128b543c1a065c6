"""Which weights a client may name, and under which name. A place on this machine is never told."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from ..errors import RequestError
from ..settings import Settings

_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)?")


class Catalogue:
    """The names of weights: the setting `model` and those in `preload`; others as their files are called."""

    def __init__(self, settings: Settings) -> None:
        sources = dict.fromkeys((settings.model, *settings.preload))
        self.names = {public_name(source): source for source in sources}

    def source_of(self, field: str, name: str) -> str:
        """Return what the engine calls these weights. Raises RequestError for anything like a path."""
        if name in self.names:
            return self.names[name]
        if not _NAME.fullmatch(name) or any(part.strip(".") == "" for part in name.split("/")):
            raise RequestError(field, name, "name weights as /v1/models lists them, and not by a path")
        return name

    def name_of(self, source: str) -> str:
        """Return the name of a source for a client."""
        return public_name(source)


def public_name(source: str) -> str:
    """Return a Hugging Face id as it is, and of a path its last part.

    >>> public_name("Tongyi-MAI/Z-Image-Turbo"), public_name("/data/models/mine"), public_name("")
    ('Tongyi-MAI/Z-Image-Turbo', 'mine', '')
    """
    if _NAME.fullmatch(source):
        return source
    return PureWindowsPath(source).name if "\\" in source else PurePosixPath(source).name
