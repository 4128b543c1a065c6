"""`/zit/v1/generate`: pictures for a request, as JSON, as bytes, or as a stream of events."""

from __future__ import annotations

import base64
import contextlib
import logging
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

from ..errors import RequestError
from ..records import Outcome
from ..request_json import FIELDS, request_of
from .asking import Made, Making, admitted, cache_headers, sent_image, tag_of
from .auth import Scope
from .errors import as_http
from .messages import EVENTS, Answer, event, json_answer
from .preconditions import is_known_already
from .service import Call, Route

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""After so long without news a stream says that it is alive."""

_OF_THE_API = {"n", "response_format", "stream", "previews"}


def routes() -> list[Route]:
    return [
        Route("POST", "/zit/v1/generate", generate, scope=Scope.GENERATE),
        Route("GET", "/zit/v1/generate", generate_by_url, scope=Scope.GENERATE),
    ]


async def generate(call: Call) -> Answer:
    """Answer with JSON; with the picture's bytes if that is what Accept wants; or with events."""
    values = await call.json()
    own = {name: values.pop(name) for name in _OF_THE_API & values.keys()}
    wanted = own.get("response_format", "url")
    if wanted not in ("url", "b64_json"):
        raise RequestError("response_format", wanted, "give url or b64_json")
    requests = admitted(call, request_of(values, sent_image), own.get("n", 1))
    making = Making(call, requests)
    accepts = call.asked.headers.get("accept", "")
    if own.get("stream") is True or EVENTS in accepts:
        return _streamed(call, making, wanted=wanted, previews=own.get("previews") is True)
    if len(requests) == 1 and accepts.startswith("image/"):
        return picture(call, (await making.answers())[0])
    made = await making.answers()
    return json_answer(body_of(made, wanted), headers=cache_headers(made))


async def generate_by_url(call: Call) -> Answer:
    """Answer with the picture's bytes: `GET /zit/v1/generate?prompt=a+lighthouse&seed=7`."""
    values = {name: _from_text(name, text) for name, text in call.asked.query.items()}
    requests = admitted(call, request_of(values, sent_image), 1)
    return picture(call, (await Making(call, requests).answers())[0])


def picture(call: Call, made: Made) -> Answer:
    """Return the picture itself, or 304 if the client has it already."""
    headers = {**cache_headers([made]), "cache-control": "private, no-cache"}
    headers["x-seed"] = str(made.result.request.seed)
    if call.asked.method in ("GET", "HEAD") and is_known_already(call.asked.headers, made.digest):
        return Answer(status=304, headers=headers)
    headers["content-type"] = made.result.media_type
    return Answer(headers=headers, body=made.data)


def body_of(made: list[Made], wanted: str) -> dict[str, Any]:
    """Return what a client wants to know of its pictures.

    `output_paths` and `cached` are the founding article's names: where the pictures are, and whether
    all of them came from the cache.
    """
    return {
        "output_paths": [each.address for each in made],
        "cached": all(each.result.status.outcome is Outcome.HIT for each in made),
        "seconds": max(each.result.seconds for each in made),
        "saved_seconds": sum(each.result.saved_seconds for each in made),
        "etag": tag_of(made),
        "images": [_image(each, wanted) for each in made],
    }


def _image(made: Made, wanted: str) -> dict[str, Any]:
    result, status = made.result, made.result.status
    shown = {"b64_json": made.base64} if wanted == "b64_json" else {"url": made.address}
    return {
        **shown,
        "blob": made.digest,
        "digest": result.digest,
        "media_type": result.media_type,
        "seed": result.request.seed,
        "outcome": status.outcome.value,
        "tier": status.tier.value,
        "key": status.key,
        "stored": status.stored,
        "collapsed": status.collapsed,
        "stale": status.stale,
        "ttl": status.ttl,
        "detail": status.detail,
        "seconds": result.seconds,
        "saved_seconds": result.saved_seconds,
        "warnings": list(result.warnings),
        "cache_status": status.header(),
    }


def _streamed(call: Call, making: Making, *, wanted: str, previews: bool) -> Answer:
    return Answer(
        headers={"content-type": EVENTS, "cache-control": "no-store", "x-accel-buffering": "no"},
        body=EventStream(
            _events(call, making, wanted=wanted, previews=previews), call.service.limits.take_stream()
        ),
    )


class EventStream:
    """A stream of events that gives its place back when it ends: read, closed, or never begun."""

    def __init__(self, events: AsyncGenerator[bytes], give_back: Callable[[], object]) -> None:
        self._events = events
        self._given_back = weakref.finalize(self, give_back)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._events.__anext__()
        except BaseException:
            self._given_back()
            raise

    async def aclose(self) -> None:
        """End it, and what it was to tell of."""
        try:
            await self._events.aclose()
        finally:
            self._given_back()


async def _events(call: Call, making: Making, *, wanted: str, previews: bool) -> AsyncGenerator[bytes]:
    """Yield `step` and `preview` events, and at the end one `result` or one `error`."""
    shown: dict[int, bytes] = {}
    try:
        yield event("begun", {"id": call.id})
        async with contextlib.aclosing(making.changes(QUIET_SECONDS)) as changes:
            async for moved in changes:
                if not moved:
                    yield b": still here\n\n"
                    continue
                for place, running in sorted(making.running.items()):
                    if running.total:
                        yield event("step", {"image": place, "done": running.done, "total": running.total})
                    if previews and running.picture is not None and shown.get(place) is not running.picture:
                        shown[place] = running.picture
                        shot = base64.b64encode(running.picture).decode("ascii")
                        yield event("preview", {"image": place, "b64_json": shot})
        yield event("result", body_of(making.made, wanted))
    except Exception as error:
        wrong = as_http(error)
        if wrong.status == 500:
            log.exception("request %s failed", call.id, exc_info=error)
        yield event("error", {"code": wrong.code, "message": wrong.message, "field": wrong.field})


_TEXTS = {"prompt", "negative_prompt", "model", "cache", "namespace", "comment", "generator_device"}


def _from_text(name: str, text: str) -> Any:
    """Return a field's value from a query: texts as they are, numbers as numbers.

    >>> _from_text("seed", "7"), _from_text("guidance", "1.5"), _from_text("prompt", "7")
    (7, 1.5, '7')
    """
    if name in _TEXTS or name not in FIELDS:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise RequestError(name, text, "give a number; for anything else send JSON by POST")
