"""The latest answers of this process: what became of each request, and why."""

from __future__ import annotations

from typing import Any

from ..answered import Answered
from ..answers import MOST
from .auth import Scope
from .messages import Answer, json_answer
from .queries import number, refuse
from .service import Call, Route


def routes() -> list[Route]:
    return [Route("GET", "/zit/v1/answers", answers, scope=Scope.READ)]


async def answers(call: Call) -> Answer:
    """Answer with the latest answers that the caller may see, the newest first."""
    query = dict(call.asked.query)
    namespace = call.who.seen_namespace(query.pop("namespace", None))
    limit = number("limit", query.pop("limit", "100"), int, least=1, most=MOST)
    refuse(query)
    latest = call.runtime.observer.answers.latest(limit, namespace)
    return json_answer({"answers": [answer_json(call, one) for one in latest]})


def answer_json(call: Call, one: Answered) -> dict[str, Any]:
    """Return one answer as JSON has it. Of prompts nothing is told where none are kept."""
    return {
        "at": one.at,
        "outcome": one.outcome,
        "reason": one.reason,
        "detail": one.detail,
        "key": one.key,
        "tier": one.tier,
        "stored": one.stored,
        "collapsed": one.collapsed,
        "seconds": one.seconds,
        "saved_seconds": one.saved_seconds,
        "render_seconds": one.render_seconds,
        "namespace": one.namespace,
        "model": call.service.catalogue.name_of(one.model),
        "prompt": one.prompt if call.runtime.settings.store_prompts else None,
        "seed": one.seed,
        "width": one.width,
        "height": one.height,
        "media_type": one.media_type,
        "digest": one.blob,
        "request_id": one.request_id,
    }
