"""What a client has already, and which part it wants: If-None-Match, Range and If-Range (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import HttpError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def is_known_already(headers: Mapping[str, str], digest: str) -> bool:
    """Tell whether If-None-Match names this blob.

    >>> is_known_already({"if-none-match": 'W/"ab", "cd"'}, "cd"), is_known_already({}, "cd")
    (True, False)
    """
    given = headers.get("if-none-match")
    if given is None:
        return False
    if given == f'"{digest}"' or given.strip() == "*":
        return True
    return any(each.strip().removeprefix("W/") == f'"{digest}"' for each in given.split(","))


def wanted_part(headers: Mapping[str, str], size: int, digest: str) -> tuple[int, int] | None:
    """Return start and end of the part that is wanted; None is all of it.

    Raises HttpError (416) if there is no such part. Several parts at once are answered with all.

    >>> wanted_part({"range": "bytes=-2"}, 10, "cd"), wanted_part({"range": "bytes=4-"}, 10, "cd")
    ((8, 10), (4, 10))
    """
    given = headers.get("range")
    if given is None or headers.get("if-range", f'"{digest}"') != f'"{digest}"':
        return None
    match = _RANGE.fullmatch(given.replace(" ", ""))
    if match is None or match[0] == "bytes=-" or max(len(match[1]), len(match[2])) > 18:
        return None
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None  # not a range at all: RFC 9110 says to ignore it
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= size or start >= end:
        raise HttpError(416, "range", "there is no such part", headers={"content-range": f"bytes */{size}"})
    return start, end
