"""Whether the server is well, and the way in for browsers: a cookie in the place of a header."""

from __future__ import annotations

import asyncio
from typing import Any

from ..errors import StoreError
from ..store_door import RETRY_SECONDS
from .auth import COOKIE, Scope
from .errors import HttpError
from .messages import Answer, json_answer
from .service import Call, Route


def routes() -> list[Route]:
    return [
        Route("GET", "/zit/v1/health", health),
        Route("GET", "/zit/v1/session", session, scope=Scope.READ),
        Route("POST", "/zit/v1/session", begin_session),
        Route("DELETE", "/zit/v1/session", end_session),
    ]


async def health(call: Call) -> Answer:
    """Answer 200 while requests are answered, 503 once the server is about to end. Needs no token.

    Who may read is told more: whether the renderer can be asked, and how many plugins are in trouble. Who
    administers is told why the store is not open.
    """
    if call.service.limits.draining:
        return json_answer({"status": "closing"}, status=503, headers={"retry-after": "5"})
    try:
        await asyncio.to_thread(call.runtime.store.generation)
        store = "open"
    except StoreError:
        store = "unavailable"
    told: dict[str, Any] = {"status": "ok", "store": store}
    problem = call.runtime.engine.store_problem
    if problem is not None and Scope.ADMIN in call.who.scopes:  # it names places on the disk
        told["store_problem"] = f"{problem}; it is tried again every {RETRY_SECONDS:.0f} seconds"
    if Scope.READ in call.who.scopes:
        plugins = call.runtime.hooks.plugins
        told["renderer"] = await asyncio.to_thread(call.runtime.observer.renderer_state)
        told["broken_plugins"] = sum(bool(each.broken) for each in dict(plugins.reports).values())
        told["troubles"] = len(plugins.troubles.all())
    return json_answer(told)


async def session(call: Call) -> Answer:
    """Say who asks."""
    who = call.who
    return json_answer(
        {
            "name": who.name,
            "namespace": who.namespace,
            "every_namespace": who.every_namespace,
            "scopes": sorted(scope.value for scope in who.scopes),
            "token_needed": not call.service.gate.is_open,
        }
    )


async def begin_session(call: Call) -> Answer:
    """Put the token of this request into a cookie, which images and event streams of a page then bear.

    No script can read it, and no other site's page can send it.
    """
    token = (await call.json()).get("token")
    gate = call.service.gate
    if gate.is_open:
        return Answer(status=204)
    if not isinstance(token, str) or not gate.knows(token):
        raise HttpError(401, "wrong_token", "this token is not known")
    return Answer(status=204, headers={"set-cookie": _cookie(call, token, "")})


async def end_session(call: Call) -> Answer:
    return Answer(status=204, headers={"set-cookie": _cookie(call, "", "; Max-Age=0")})


def _cookie(call: Call, token: str, more: str) -> str:
    secure = "; Secure" if call.asked.secure else ""
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{more}"
