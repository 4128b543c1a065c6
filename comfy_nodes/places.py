"""Which files are as they were at a moment, links and folders on the way to them included.

A file has its own times. A link that leads to another old file, or another old folder that was moved to
the place of the first, brings other bytes whose times are old.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from zit_ext.models.weight_files import SeenFile

_MOST_LINKS = 40


class Places:
    """Looks back to `since` (Unix seconds), which is now; `known` are paths whose folders are remembered."""

    def __init__(self, since: float, known: Iterable[str]) -> None:
        self._since = since
        self._folders: dict[str, tuple[int, int]] = {}
        for path in known:
            self._stood(os.path.abspath(path), {}, 0)  # noqa: PTH100 - links on the way are of interest

    def are_older(self, files: Iterable[SeenFile]) -> bool:
        """Say whether these files are as they were; a folder that was not met before is."""
        looked: dict[str, bool] = {}
        return all(
            self._is_before(max(each.mtime_ns, each.ctime_ns))
            and self._stood(os.path.abspath(each.path), looked, 0)  # noqa: PTH100
            for each in files
        )

    def _stood(self, path: str, looked: dict[str, bool], links: int) -> bool:
        """Say whether a path still leads where it led; `looked` is what is known of other paths."""
        if path not in looked:
            above = os.path.dirname(path)  # noqa: PTH120
            looked[path] = (above == path or self._stood(above, looked, links)) and self._leads(
                path, looked, links
            )
        return looked[path]

    def _leads(self, path: str, looked: dict[str, bool], links: int) -> bool:
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                beside = os.path.realpath(os.path.dirname(path))  # noqa: PTH120
                target = os.path.normpath(os.path.join(beside, os.readlink(path)))  # noqa: PTH118, PTH115
                return (
                    links < _MOST_LINKS
                    and self._is_before(max(found.st_mtime_ns, found.st_ctime_ns))
                    and self._stood(target, looked, links + 1)
                )
        except OSError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return True
        place = (found.st_dev, found.st_ino)
        return self._folders.setdefault(path, place) == place

    def _is_before(self, time_ns: int) -> bool:
        return time_ns / 1e9 < self._since
