"""What an entry differs in from those that come nearest to it: why its request was no hit on one of them."""

from __future__ import annotations

import asyncio
from typing import Any

from ..explaining import differences
from ..results.details import NEAREST_SCAN
from .auth import Scope
from .entries import pairs, shown, stored, visible
from .messages import Answer, json_answer
from .queries import flag, number, refuse
from .service import Call, Route

MOST = 20
"""Entries in one answer."""


def routes() -> list[Route]:
    return [Route("GET", "/zit/v1/entries/{key}/nearest", stored(nearest), scope=Scope.READ)]


async def nearest(call: Call) -> Answer:
    """Answer with the entries of the same namespace that differ in the fewest fields, and those fields.

    `older=true` leaves out what was kept later: when a miss was looked up, it was not there yet.
    """
    query = dict(call.asked.query)
    limit = number("limit", query.pop("limit", "5"), int, least=1, most=MOST)
    older = flag("older", query.pop("older", "false"))
    refuse(query)
    return json_answer(await asyncio.to_thread(_nearest, call, limit, older))


def _nearest(call: Call, limit: int, older: bool) -> dict[str, Any]:
    mine = visible(call, call.names["key"])
    told: list[dict[str, Any]] = []
    for other in call.runtime.store.nearest(mine.fields, NEAREST_SCAN):
        if other.entry.key == mine.entry.key or other.entry.namespace != mine.entry.namespace:
            continue
        if older and other.entry.created_at >= mine.entry.created_at:
            continue
        found = differences(mine.fields, other.fields, readable=not (mine.redacted or other.redacted))
        told.append({"entry": shown(call, other.entry), "differences": pairs(found)})
        if len(told) == limit:
            break
    return {"key": mine.entry.key, "nearest": told}
