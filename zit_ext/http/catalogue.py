"""Which weights a client may name, and under which name. A place on this machine is never told."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath

from ..errors import RequestError
from ..found_weights import zimage_models
from ..settings import Settings

LOOK_SECONDS = 30.0
"""How often the folders of weights are looked through, if somebody asks."""

_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)?")


class Catalogue:
    """The names of weights: those of the settings, those that are held, and those that are found."""

    def __init__(
        self,
        settings: Settings,
        *,
        find: Callable[[], Iterable[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`find` returns the names of models that are there, and may take a while."""
        sources = dict.fromkeys((settings.model, *settings.preload))
        self._find = find or (lambda: zimage_models(settings, os.environ))
        self._clock = clock
        self._of_settings = {public_name(source): source for source in sources}
        self._held: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._due = 0.0
        self._looking = threading.Lock()
        self._merge()

    @property
    def names(self) -> Mapping[str, str]:
        """Every name that is known by now, and what the engine calls these weights; the setting's first."""
        return self._names

    def look(self, held: Iterable[str] = ()) -> None:
        """Learn what is held now, by its sources, and what is found. Blocks."""
        self._held = {public_name(source): source for source in held}
        with self._looking:
            if self._clock() >= self._due:
                # A folder of models knows names that are no plain ones: whatever is found may be asked for.
                self._found = {name: name for name in self._find()}
                self._due = self._clock() + LOOK_SECONDS
        self._merge()

    def forget(self) -> None:
        """Have the folders looked through at the next look, whenever that was done last."""
        self._due = self._clock()

    def source_of(self, field: str, name: str) -> str:
        """Return what the engine calls these weights. Raises RequestError for anything like a path."""
        if name in self._names:
            return self._names[name]
        if not _NAME.fullmatch(name) or any(part.strip(".") == "" for part in name.split("/")):
            raise RequestError(field, name, "name weights as /v1/models lists them, and not by a path")
        return name

    def name_of(self, source: str) -> str:
        """Return the name of a source for a client."""
        return source if source in self._found else public_name(source)

    def _merge(self) -> None:
        # What the settings call so is meant first, then what is held; and they are listed in this order.
        names = dict(self._of_settings)
        for more in (self._held, self._found):
            for name, source in more.items():
                names.setdefault(name, source)
        self._names = names


def public_name(source: str) -> str:
    """Return a Hugging Face id as it is, and of a path its last part.

    >>> public_name("Tongyi-MAI/Z-Image-Turbo"), public_name("/data/models/mine"), public_name("")
    ('Tongyi-MAI/Z-Image-Turbo', 'mine', '')
    """
    if _NAME.fullmatch(source):
        return source
    return PureWindowsPath(source).name if "\\" in source else PurePosixPath(source).name
