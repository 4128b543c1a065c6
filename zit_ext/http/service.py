"""One door for every framework: a request in, an answer out.

Finds the route, asks whether the caller may, lets the handler work, and says in the caller's dialect
what went wrong. Knows neither sockets nor frameworks.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..pipeline import Watcher
from ..records import ModelRef, Request, Result
from ..request_ids import request_id
from ..runtime import Runtime
from ..structured_logs import fields
from .auth import NOBODY, Caller, Gate, LacksScopeError, Scope
from .board import Board
from .catalogue import Catalogue
from .errors import Dialect, HttpError, answer_to, as_http
from .limits import Limits
from .messages import Answer, Asked
from .shelf import Shelf
from .signing import Signer

log = logging.getLogger(__name__)

Render = Callable[[Request, Watcher], Awaitable[Result]]
Preload = Callable[[ModelRef], Awaitable[None]]
_ALWAYS = {"server": "zit_ext", "x-content-type-options": "nosniff"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Call(NamedTuple):
    """One request on its way through a handler."""

    asked: Asked
    who: Caller
    service: Service
    id: str
    names: Mapping[str, str]
    """What stood in the braces of the route's path."""

    @property
    def runtime(self) -> Runtime:
        return self.service.runtime

    async def body(self) -> bytes:
        """Return the body. Raises HttpError if it is too large, or takes too long to come."""
        return await self.service.limits.read(self.asked)

    async def json(self) -> dict[str, Any]:
        """Return the body, which is one JSON object. Raises HttpError."""
        data = await self.body()
        try:
            value = json.loads(data or b"{}", parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise HttpError(400, "no_json", 'the body is no JSON: send {"field": value, ...}') from None
        if not isinstance(value, dict):
            raise HttpError(400, "no_object", 'the body must be {"field": value, ...}')
        return value


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers what. `{name}` in the path stands for one segment, `{name...}` for the rest."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None = None
    """What the caller must be allowed to do; None: nothing."""
    dialect: Dialect = Dialect.ZIT

    @property
    def pattern(self) -> re.Pattern[str]:
        parts = re.split(r"(\{\w+(?:\.\.\.)?\})", self.path)
        return re.compile("".join(_part(part) for part in parts))


class Service:
    """The HTTP API over one runtime. Any number of loops may ask it."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        routes: Iterable[Route],
        gate: Gate | None = None,
        render: Render | None = None,
        preload: Preload | None = None,
        queue_is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`render` and `preload` lead to a host's queue; without them the runtime is asked.

        `queue_is_busy` says whether what comes into that queue now has to wait.
        """
        settings = runtime.settings
        self.runtime = runtime
        self.gate = gate or Gate(namespace=settings.namespace)
        self.render: Render = render or runtime.generate
        self.preload: Preload = preload or runtime.preload
        self.queue_is_busy = queue_is_busy
        self.board = Board()
        self.catalogue = Catalogue(settings)
        self.limits = Limits(settings)
        self.shelf = Shelf(runtime.store, settings.http_memory_bytes)
        self.signer = Signer()
        # Every request has an id of its own, in the log too; drawing one anew each time would cost more
        # than a hit may.
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self.routes = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        # With what each path begins: to compare that is quicker than to try the pattern.
        self._patterns: list[tuple[str, re.Pattern[str], Route]] = []
        for route in self.routes:
            if "{" in route.path:
                self._patterns.append((route.path.partition("{")[0], route.pattern, route))
            else:
                self._exact.setdefault(route.path, {})[route.method] = route

    async def answer(self, asked: Asked) -> Answer:
        """Return the answer, whatever happens: an error is an answer too."""
        given = asked.headers.get("x-request-id")
        id = given if given and _REQUEST_ID.fullmatch(given) else f"{self._name}-{next(self._numbers):x}"
        # Not set back: a stream goes on when this has returned, and the next request sets its own.
        request_id.set(id)
        started = time.perf_counter()
        route: Route | None = None
        caller = NOBODY
        try:
            self.gate.check_place(asked)
            if asked.method == "OPTIONS":
                return self._preflight(asked)
            route, names = self._find(asked)
            caller = self.gate.admit(asked, route.scope)
            self.limits.admit(caller, route.scope)
            answer = await route.handler(Call(asked, caller, self, id, names))
        except Exception as error:
            wrong = as_http(error)
            if isinstance(error, LacksScopeError):
                caller = error.caller  # for the log
            if wrong.status == 500:
                log.exception("request %s: %s %s failed", id, asked.method, asked.path, exc_info=error)
            answer = answer_to(wrong, _dialect_of(asked.path) if route is None else route.dialect)
        if log.isEnabledFor(logging.INFO):
            _log(id, caller, asked, answer, time.perf_counter() - started)
        return self._dressed(asked, answer, id)

    def _find(self, asked: Asked) -> tuple[Route, Mapping[str, str]]:
        method = "GET" if asked.method == "HEAD" else asked.method
        path = asked.path
        there = self._exact.get(path, {})
        if method in there:
            return there[method], {}
        allowed = set()
        for beginning, pattern, route in self._patterns:
            if path.startswith(beginning) and (match := pattern.fullmatch(path)):
                if route.method == method:
                    return route, match.groupdict()
                allowed.add(route.method)
        allowed |= there.keys()
        if allowed:
            raise HttpError(
                405, "method", f"{asked.method} is not for this path", headers={"allow": _list(allowed)}
            )
        raise HttpError(404, "no_such_path", "there is nothing at this path")

    # What every answer bears

    def _dressed(self, asked: Asked, answer: Answer, id: str) -> Answer:
        headers = {**_ALWAYS, "x-request-id": id, **answer.headers}
        if self.gate.origins and asked.headers.get("origin", "").lower() in self.gate.origins:
            headers |= {
                "access-control-allow-origin": asked.headers["origin"],
                "access-control-expose-headers": "Cache-Status, X-Generation-Time-Saved, ETag, X-Request-Id",
                "vary": "Origin",
            }
        return Answer(status=answer.status, headers=headers, body=answer.body)

    def _preflight(self, asked: Asked) -> Answer:
        origin = asked.headers.get("origin", "")
        if origin.lower() not in self.gate.origins:
            return Answer(status=204, headers={"allow": "GET, HEAD, POST, DELETE, OPTIONS"})
        return Answer(
            status=204,
            headers={
                "access-control-allow-origin": origin,
                "access-control-allow-methods": "GET, HEAD, POST, DELETE",
                "access-control-allow-headers": "Authorization, Content-Type, Cache-Control, X-API-Key, "
                "If-None-Match, Range, X-Request-Id",
                "access-control-max-age": "600",
                "vary": "Origin",
            },
        )


def _log(id: str, caller: Caller, asked: Asked, answer: Answer, seconds: float) -> None:
    # Of the path, and not of the query: prompts stand there.
    about = fields(
        caller=caller.name,
        method=asked.method,
        path=asked.path,
        status=answer.status,
        seconds=round(seconds, 6),
        cache_status=answer.headers.get("cache-status"),
    )
    log.info("%s %s %s %s %d", id, caller.name, asked.method, asked.path, answer.status, extra=about)


def _part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    name = part.strip("{}")
    return f"(?P<{name[:-3]}>.*)" if name.endswith("...") else f"(?P<{name}>[^/]+)"


def _list(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())}))


def _dialect_of(path: str) -> Dialect:
    if path.startswith("/v1/"):
        return Dialect.OPENAI
    return Dialect.A1111 if path.startswith("/sdapi/") else Dialect.ZIT


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
