"""`/zit/v1/history`: what charts are drawn of. Of all processes on this cache folder, and over restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..answered import EDGES
from ..history.reading import MOST_HOURS, Moment
from ..history.tally import COUNTS, SUMS
from .auth import Scope
from .messages import Answer, json_answer
from .queries import number, refuse
from .service import Call, Route

HOURS = "24"
"""How far back, where nobody says."""


def routes() -> list[Route]:
    return [Route("GET", "/zit/v1/history", history, scope=Scope.READ)]


async def history(call: Call) -> Answer:
    """Answer with counters by time. A caller with one namespace is told of that one only."""
    query = dict(call.asked.query)
    namespace = call.who.seen_namespace(query.pop("namespace", None))
    hours = number("hours", query.pop("hours", HOURS), float, least=0.1, most=MOST_HOURS)
    refuse(query)
    recorder = call.runtime.observer.history
    found, totals = await asyncio.to_thread(recorder.overview, hours, namespace)
    told: dict[str, Any] = {
        "step": found.step,
        "buckets": [_bucket(call, each) for each in found.moments],
        "bins": {"hit": list(EDGES["hit"]), "miss": list(EDGES["miss"])},
        "totals": {**_numbers(totals.numbers), "since": totals.since},
    }
    return json_answer(told)


def _bucket(call: Call, moment: Moment) -> dict[str, Any]:
    return {
        "at": moment.at,
        **_numbers(moment.numbers),
        "reasons": moment.reasons,
        "latencies": {"hit": moment.hit_bins, "miss": moment.miss_bins},
        "store_bytes": moment.bytes,
        "entries": moment.entries,
        "models": list(dict.fromkeys(call.service.catalogue.name_of(each) for each in moment.models)),
    }


def _numbers(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return every number by its name: what was counted as a whole one, what was measured as it is."""
    return {
        **{name: int(numbers.get(name, 0)) for name in COUNTS},
        **{name: float(numbers.get(name, 0)) for name in SUMS},
    }
