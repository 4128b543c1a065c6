"""Durations and sizes on the command line, read as the settings read them."""

from __future__ import annotations

from typing import Any

from ..errors import RequestError
from ..settings import Settings


def seconds(field: str, text: str, *, like: str = "ttl_seconds") -> float:
    """Return the seconds in a text such as 90, "90 min" or 7d. Raises RequestError that names the field.

    >>> seconds("older", "2h")
    7200.0
    """
    return float(_cast(field, text, like))


def count_of_bytes(field: str, text: str) -> int:
    """Return the bytes in a text such as 500, "1.5 MB" or 10GiB. Raises RequestError.

    >>> count_of_bytes("min_size", "1 kB")
    1000
    """
    return int(_cast(field, text, "memory_bytes"))


def _cast(field: str, text: str, like: str) -> Any:
    cast = next(each.metadata["cast"] for each in Settings.described() if each.name == like)
    try:
        return cast(text)
    except ValueError as error:
        raise RequestError(field, text, f"give {error}") from None
