"""JSON as we read it: whatever is wrong with a text says so by a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str | bytes) -> Any:
    """Return the value that the text says. Raises ValueError for what is no JSON.

    Python's own reader lets a RecursionError out where brackets are nested too deep.

    >>> parsed("[1]")
    [1]
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
