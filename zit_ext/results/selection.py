"""Which entries a person wants to see, as a question to the index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import RequestError

ORDERS: Mapping[str, str] = {
    "newest": "e.created_at DESC, e.id DESC",
    "oldest": "e.created_at, e.id",
    "used": "e.used_at DESC, e.sequence DESC",
    "unused": "e.sequence",
    "uses": "e.uses DESC, e.id DESC",
    "largest": "e.size DESC, e.id DESC",
    "smallest": "e.size, e.id",
    "cost": "e.cost DESC, e.id DESC",
    "saved": "e.cost * e.uses - e.saved_before DESC, e.id DESC",
    "expiring": "e.expires_at IS NULL, e.expires_at",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Entries that fit everything that is named here, in this order."""

    prompt: str | None = None
    """A part of the prompt, whatever its case."""
    model: str | None = None
    """A part of the model's source, whatever its case."""
    namespace: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    """Unix seconds."""
    min_bytes: int | None = None
    max_bytes: int | None = None
    pinned: bool | None = None
    stale: bool | None = None
    """Only those whose time is over, or only those whose is not."""
    order: str = "newest"
    """One of `ORDERS`."""
    limit: int = 100
    """0 means without limit."""
    offset: int = 0

    def question(self, now: float) -> tuple[str, list[object]]:
        """Return the rest of a SELECT, and its values. Raises RequestError for an unknown order."""
        if self.order not in ORDERS:
            raise RequestError("order", self.order, f"allowed is one of {', '.join(ORDERS)}")
        joins, where, values = self._conditions(now)
        order = f"ORDER BY {ORDERS[self.order]}"
        # First which, then all about them: sorting whole rows would drag every prompt and field along.
        chosen = f"SELECT e.id FROM entries e {joins}{where}{order} LIMIT ? OFFSET ?"
        return f"WHERE e.id IN ({chosen}) {order}", [*values, self.limit or -1, self.offset]

    @property
    def reads_texts(self) -> bool:
        """It looks at every prompt or model: that takes time."""
        return self.prompt is not None or self.model is not None

    def places(self, now: float) -> tuple[str, list[object]]:
        """Return the SELECT of the rows of all that fit, in order, and its values."""
        if self.order not in ORDERS:
            raise RequestError("order", self.order, f"allowed is one of {', '.join(ORDERS)}")
        joins, where, values = self._conditions(now)
        return f"SELECT e.id FROM entries e {joins}{where}ORDER BY {ORDERS[self.order]}", values

    def counting(self, now: float) -> tuple[str, list[object]]:
        """Return the SELECT that counts all that fit, whatever the limit, and its values."""
        joins, where, values = self._conditions(now)
        return f"SELECT count(*) FROM entries e {joins}{where}", values

    def _conditions(self, now: float) -> tuple[str, str, list[object]]:
        """Return the tables that are needed beside the entries, the conditions, and their values."""
        conditions: list[str] = []
        values: list[object] = []
        joins: list[str] = []

        def add(condition: str, *value: object) -> None:
            conditions.append(condition)
            values.extend(value)

        if self.prompt is not None:
            add("d.prompt LIKE ? ESCAPE '\\'", _part(self.prompt))
        if self.model is not None:
            add("d.model LIKE ? ESCAPE '\\'", _part(self.model))
        if conditions:
            joins.append("JOIN details d ON d.id = e.id ")
        if self.namespace is not None:
            add("e.namespace = (SELECT id FROM namespaces WHERE name = ?)", self.namespace)
        if self.created_after is not None:
            add("e.created_at >= ?", self.created_after)
        if self.created_before is not None:
            add("e.created_at < ?", self.created_before)
        if self.min_bytes is not None:
            add("e.size >= ?", self.min_bytes)
        if self.max_bytes is not None:
            add("e.size <= ?", self.max_bytes)
        if self.pinned is not None:
            add("e.pinned = ?", self.pinned)
        if self.stale is not None:
            add("coalesce(e.expires_at <= ?, 0) = ?", now, self.stale)
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return "".join(joins), where, values


def _part(text: str) -> str:
    """Return a LIKE pattern for texts that contain this one, letter for letter.

    >>> _part("50%_off")
    '%50\\\\%\\\\_off%'
    """
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return f"%{text}%"
