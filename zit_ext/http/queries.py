"""What stands behind a question mark: numbers, flags, and nothing that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import RequestError


def number(
    field: str, text: str, kind: Callable[[str], Any], *, least: float = 0, most: float = 2**53
) -> Any:
    """Return a number from a query. Raises RequestError.

    >>> number("limit", "10", int, least=1, most=500)
    10
    """
    try:
        found = kind(text)
    except ValueError:
        found = None
    if found is None or not least <= found <= most:
        raise RequestError(field, text, f"give a number from {least:g} to {most:g}")
    return found


def flag(field: str, text: str) -> bool:
    """Return true or false from a query. Raises RequestError."""
    if text not in ("true", "false"):
        raise RequestError(field, text, "give true or false")
    return text == "true"


def refuse(left: Mapping[str, Any]) -> None:
    """Raise RequestError for a field that nobody has taken."""
    for name, value in left.items():
        raise RequestError(name, value, "there is no such field")
