"""OpenAI's Images API: `/v1/images/generations` and `/v1/models`, as its clients speak it.

Fields of ours (`seed`, `steps`, `guidance`, `loras`, ...) may stand beside OpenAI's. What a picture of ours
cannot have is refused, and not passed over in silence.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from ..errors import RequestError
from ..request_json import FIELDS, request_of
from .administration import names_of
from .asking import Made, Making, admitted, cache_headers, sent_image
from .auth import Scope
from .errors import Dialect, HttpError
from .messages import Answer, json_answer
from .service import Call, Route

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")

_WITHOUT_EFFECT = {"user", "quality", "style", "moderation", "output_compression", "partial_images"}
"""Fields of OpenAI's that change nothing here: there is one quality and one style."""

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "output_format": (None, "png"),
    "background": (None, "auto", "opaque"),
    "stream": (None, False),
}
"""Fields of OpenAI's that may have these values only."""


def routes() -> list[Route]:
    def route(method: str, path: str, handler: Any, scope: Scope) -> Route:
        return Route(method, path, handler, scope=scope, dialect=Dialect.OPENAI)

    return [
        route("POST", "/v1/images/generations", generations, Scope.GENERATE),
        route("GET", "/v1/models", models, Scope.READ),
        route("GET", "/v1/models/{id...}", model, Scope.READ),
    ]


async def generations(call: Call) -> Answer:
    values = await call.json()
    wanted = values.pop("response_format", None)
    if wanted not in (None, "url", "b64_json"):
        raise RequestError("response_format", wanted, "give url or b64_json")
    count = values.pop("n", None)
    requests = admitted(call, request_of(_fields(values), sent_image), 1 if count is None else count)
    made = await Making(call, requests).answers()
    data = [_picture(call, each, wanted or "url") for each in made]
    return json_answer({"created": int(time.time()), "data": data}, headers=cache_headers(made))


def _fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request of ours. Raises RequestError."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name in _ONLY:
            if value not in _ONLY[name]:
                allowed = ", ".join(str(each) for each in _ONLY[name][1:])
                raise RequestError(name, value, f"give {allowed}, or leave it out")
        elif name == "size":
            fields |= _sides(value)
        elif name in FIELDS or name not in _WITHOUT_EFFECT:
            fields[name] = value
    if fields.get("model") is None:
        fields.pop("model", None)
    return fields


def _sides(size: Any) -> dict[str, int]:
    if size is None or size == "auto":
        return {}
    match = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if match is None:
        raise RequestError("size", size, "give WIDTHxHEIGHT, such as 1024x1024, or auto")
    return {"width": int(match[1]), "height": int(match[2])}


def _picture(call: Call, made: Made, wanted: str) -> dict[str, Any]:
    result = made.result
    shown = {"b64_json": made.base64} if wanted == "b64_json" else {"url": _full_url(call, made)}
    return {
        **shown,
        "seed": result.request.seed,
        "outcome": result.status.outcome.value,
        "cache_status": result.status.header(),
        "saved_seconds": result.saved_seconds,
        "warnings": list(result.warnings),
    }


def _full_url(call: Call, made: Made) -> str:
    """Return a URL that can be fetched as it is: with its signature where tokens are needed."""
    if made.address != made.url:
        return made.address
    scheme = "https" if call.asked.secure else "http"
    url = f"{scheme}://{call.asked.headers.get('host', 'localhost')}{made.url}"
    if call.service.gate.is_open:
        return url
    return f"{url}?{call.service.signer.query(made.digest, made.result.request.namespace)}"


async def models(call: Call) -> Answer:
    return json_answer({"object": "list", "data": [_model(name) for name in await names_of(call)]})


async def model(call: Call) -> Answer:
    name = call.names["id"]
    if name not in await names_of(call):
        raise HttpError(404, "model_not_found", "there is no model of that name", field="model")
    return json_answer(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "zit_ext"}
