"""An entry as people and programs read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .. import human
from ..records import Entry, FieldValue
from .console import one_line

SHORT = 12
"""Digits of a key that are shown in a list; any command takes them."""

TABLE_HEAD = ("key", "age", "left", "size", "uses", "saves", "", "model", "prompt")
TABLE_RIGHT = ("age", "left", "size", "uses", "saves")


def table_row(entry: Entry, now: float) -> list[str]:
    """Return the cells under `TABLE_HEAD`."""
    return [
        entry.key[:SHORT],
        human.age(now - entry.created_at),
        left(entry, now),
        human.size(entry.blob.size),
        str(entry.uses),
        human.duration(entry.cost),
        "pinned" if entry.pinned else "",
        one_line(entry.model, 30),
        "(not readable)" if entry.prompt is None else one_line(entry.prompt, 60),
    ]


def left(entry: Entry, now: float) -> str:
    """Return how long an entry may still answer."""
    if entry.expires_at is None or entry.pinned:
        return "-"
    return human.age(entry.expires_at - now) if entry.expires_at > now else "stale"


def flat(fields: Mapping[str, FieldValue], path: str = "") -> Iterator[tuple[str, FieldValue]]:
    """Yield each field by its path, as `explain` names it.

    >>> list(flat({"seed": 1, "model": {"dtype": "auto"}}))
    [('model.dtype', 'auto'), ('seed', 1)]
    """
    for name in sorted(fields):
        value, here = fields[name], f"{path}.{name}" if path else name
        if isinstance(value, Mapping) and value:
            yield from flat(value, here)
        else:
            yield here, value


def shown(value: FieldValue) -> str:
    """Return a field's value as one cell.

    >>> shown(None), shown(0.5), shown([{"source": "a"}]), shown(b"ab")
    ('-', '0.5', "[{'source': 'a'}]", '2 bytes 6162')
    """
    if value is None:
        return "-"
    if isinstance(value, bytes):
        return f"{len(value)} bytes {value[:16].hex()}"
    return one_line(str(list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value))
