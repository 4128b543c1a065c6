"""Sets right what the index says about itself: sums, references, and rows that point at nothing.

Rows of entries prove themselves at every hit. What stands beside them (sums, limits, who reserved what) has
nobody to ask: one flipped bit there would fill a store for ever, or let it grow without end. Here each of
them is compared with the entries and blobs that are really there. Nothing here makes an answer of a
damaged row: what cannot be right is removed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

MOST = 1 << 60
"""No honest sum is larger."""


class Rule(NamedTuple):
    """Rows of a table that are wrong, and what makes them right: a change, or without one their removal."""

    name: str
    table: str
    wrong: str
    right: str | None = None


def _whole(column: str) -> str:
    return f"(typeof({column}) = 'integer' AND {column} BETWEEN 0 AND {MOST})"


def _number(column: str, least: str = "-1e300") -> str:
    return f"(typeof({column}) IN ('integer', 'real') AND {column} BETWEEN {least} AND 1e300)"


def _digest(column: str) -> str:
    return f"(typeof({column}) = 'blob' AND length({column}) = 32)"


def _reset(table: str, column: str, fine: str, value: str) -> Rule:
    return Rule(f"{table}.{column}", table, f"NOT {fine}", f"{column} = {value}")


def _sum(table: str, column: str, value: str) -> Rule:
    return Rule(f"{table}.{column}", table, f"{column} IS NOT {value}", f"{column} = {value}")


def _of_namespace(what: str) -> str:
    # In two halves, so that neither walks over all entries for each namespace.
    question = f"SELECT coalesce({what}, 0) FROM entries WHERE namespace = namespaces.id AND"
    return f"(({question} NOT pinned) + ({question} pinned))"


SMALL_RULES: tuple[Rule, ...] = (
    _reset("totals", "generation", "(typeof(generation) = 'integer')", "random() >> 12"),
    _reset(
        "totals",
        "sequence",
        _whole("sequence"),
        f"coalesce((SELECT max(sequence) FROM entries WHERE {_whole('sequence')}), 0)",
    ),
    _reset("totals", "policy", "(typeof(policy) = 'text')", "''"),
    _reset("totals", "floor", _number("floor"), "0"),
    _reset("totals", "rescored", f"(rescored IS NULL OR {_whole('rescored')})", "0"),
    _reset("totals", "hits", _whole("hits"), "0"),
    _reset("totals", "saved_seconds", _number("saved_seconds"), "0"),
    _reset("totals", "swept_at", _number("swept_at"), "0"),
    *(_reset("totals", sum, _whole(sum), "0") for sum in ("entries", "bytes", "aside_bytes")),
    *(_reset("namespaces", sum, _whole(sum), "0") for sum in ("entries", "bytes")),
    Rule("namespaces.name", "namespaces", "typeof(name) <> 'text'"),
    _reset("namespaces", "ttl_seconds", f"(ttl_seconds IS NULL OR {_number('ttl_seconds', '0')})", "NULL"),
    _reset("namespaces", "max_bytes", _whole("max_bytes"), "0"),
    _reset("namespaces", "max_entries", _whole("max_entries"), "0"),
    Rule(
        "reservations",
        "reservations",
        f"NOT ({_digest('digest')} AND {_whole('size')} AND typeof(owner) = 'text')",
    ),
    Rule("aside", "aside", f"NOT (typeof(name) = 'text' AND {_whole('size')} AND {_number('at')})"),
    Rule(
        "claims",
        "claims",
        f"NOT ({_digest('key')} AND typeof(owner) = 'text' AND {_whole('beat')} AND {_number('beat_at')})",
    ),
)
"""Of tables with few rows, and quick to look at: values of a kind that cannot be."""

POINTERS: tuple[Rule, ...] = (
    Rule("blobs", "blobs", f"NOT ({_digest('digest')} AND {_whole('size')})"),
    Rule(
        "entries",
        "entries",
        f"NOT ({_digest('key')} AND {_whole('size')} "
        "AND EXISTS (SELECT 1 FROM namespaces n WHERE n.id = namespace) "
        "AND EXISTS (SELECT 1 FROM blobs b WHERE b.id = blob) "
        "AND EXISTS (SELECT 1 FROM details d WHERE d.id = entries.id))",
    ),
    Rule("details", "details", "NOT EXISTS (SELECT 1 FROM entries e WHERE e.id = details.id)"),
    Rule(
        "blobs.refs",
        "blobs",
        "refs IS NOT (SELECT count(*) FROM entries WHERE blob = blobs.id) OR doomed IS NOT (refs = 0)",
        "refs = (SELECT count(*) FROM entries WHERE blob = blobs.id), "
        "doomed = NOT EXISTS (SELECT 1 FROM entries WHERE blob = blobs.id)",
    ),
)
"""What points at nothing, and what nothing points at."""

SUMS: tuple[Rule, ...] = (
    _sum("totals", "entries", "(SELECT count(*) FROM entries)"),
    _sum("totals", "bytes", "(SELECT coalesce(sum(size), 0) FROM blobs)"),
    _sum("totals", "aside_bytes", "(SELECT coalesce(sum(size), 0) FROM aside)"),
    _sum("namespaces", "entries", _of_namespace("count(*)")),
    _sum("namespaces", "bytes", _of_namespace("sum(size)")),
)
RULES = SMALL_RULES + POINTERS + SUMS
"""In this order: what goes takes its sums along."""

_NO_TOTALS = "SELECT NOT EXISTS (SELECT 1 FROM totals)"


def is_broken(db: sqlite3.Connection, rule: Rule) -> bool:
    """Tell whether any row breaks the rule. Reads only."""
    found: int = db.execute(f"SELECT EXISTS (SELECT 1 FROM {rule.table} WHERE {rule.wrong})").fetchone()[0]
    return bool(found)


def broken(db: sqlite3.Connection, rules: Sequence[Rule] = RULES) -> list[str]:
    """Return the names of what is wrong. Reads only."""
    missing = ["totals"] if db.execute(_NO_TOTALS).fetchone()[0] else []
    return missing + [rule.name for rule in rules if is_broken(db, rule)]


def mend(db: sqlite3.Connection) -> int:
    """Make it right, inside the caller's transaction; return how many rows had to change."""
    before = db.total_changes
    db.execute(
        "INSERT INTO totals (id, generation) SELECT 1, random() >> 12 WHERE NOT EXISTS (SELECT 1 FROM totals)"
    )
    for rule in RULES:
        change = f"UPDATE {rule.table} SET {rule.right}" if rule.right else f"DELETE FROM {rule.table}"
        db.execute(f"{change} WHERE {rule.wrong}")
    return db.total_changes - before
