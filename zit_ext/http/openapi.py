"""`/zit/v1/openapi.json`: what this API is, for programs. Its truth is tested by asking everything in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import __version__, answers
from ..history.reading import MOST_HOURS
from ..results.selection import ORDERS
from . import entries, nearest, thumbnails
from .auth import Scope
from .errors import Dialect
from .messages import EVENTS, JSON, Answer, json_answer
from .openapi_schemas import (
    ANY,
    DIGEST,
    FLAG,
    MAYBE_TEXT,
    NUMBER,
    REQUEST_FIELDS,
    SCHEMAS,
    TEXT,
    WHOLE,
    Schema,
    list_of,
    record,
    ref,
)
from .service import Call, Route


@dataclass(frozen=True, slots=True)
class About:
    """What the document says of one route, beside what the route says itself."""

    summary: str
    answer: Schema | None = None
    """The body of a success; None: there is none."""
    body: Schema | None = None
    query: Mapping[str, Schema] | None = None
    types: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = (200,)


_COUNT = {"type": "integer", "minimum": 0}
_PAGE: Mapping[str, Schema] = {
    "prompt": TEXT,
    "model": TEXT,
    "namespace": TEXT,
    "created_after": NUMBER,
    "created_before": NUMBER,
    "min_bytes": _COUNT,
    "max_bytes": _COUNT,
    "pinned": FLAG,
    "stale": FLAG,
    "order": {"enum": list(ORDERS)},
    "limit": {"type": "integer", "minimum": 1, "maximum": entries.MOST},
    "offset": _COUNT,
    "total": FLAG,
}
_BY_URL = {
    name: schema
    for name, schema in REQUEST_FIELDS.items()
    if schema.get("type") in ("integer", "number", "string")
}
_MODEL_NAME = record({}, {"model": MAYBE_TEXT})
_PICTURE = ("image/png",)
_METRICS = About(
    "Metrics for Prometheus",
    TEXT,
    types=("text/plain", "application/openmetrics-text"),
    statuses=(200, 501),
)
_PAGE_TYPES = ("text/html",)
_LIST_NAMES = (
    "sd-models samplers schedulers sd-vae upscalers latent-upscale-modes hypernetworks face-restorers "
    "realesrgan-models prompt-styles loras script-info"
)
_LISTS = {name: About(f"The webui's {name}", list_of(ANY)) for name in _LIST_NAMES.split()}
_OBJECTS = {
    name: About(f"The webui's {name}", {"type": "object"})
    for name in ("embeddings", "scripts", "cmd-flags", "progress", "options")
}

ABOUT: Mapping[tuple[str, str], About] = {
    ("POST", "/zit/v1/generate"): About(
        "Make pictures, or find them in the cache",
        ref("Generated"),
        ref("Generate"),
        types=(JSON, EVENTS, *_PICTURE),
    ),
    ("GET", "/zit/v1/generate"): About(
        "One picture by a link",
        {"type": "string", "format": "binary"},
        query=_BY_URL,
        types=_PICTURE,
        statuses=(200, 304),
    ),
    ("GET", "/zit/blobs/{digest}"): About(
        "A picture by its digest",
        {"type": "string", "format": "binary"},
        types=_PICTURE,
        statuses=(200, 206, 304, 416),
    ),
    ("GET", "/zit/v1/health"): About("Whether requests are answered", {"type": "object"}),
    ("GET", "/zit/v1/openapi.json"): About("This document", {"type": "object"}),
    ("GET", "/zit/v1/session"): About("Who asks", ref("Session")),
    ("POST", "/zit/v1/session"): About(
        "Put a token into a cookie", None, record({"token": TEXT}), statuses=(204,)
    ),
    ("DELETE", "/zit/v1/session"): About("Forget the cookie", None, statuses=(204,)),
    ("GET", "/zit/v1/stats"): About(
        "What is stored, and what it saved", ref("Stats"), query={"namespace": TEXT}
    ),
    ("GET", "/zit/v1/entries"): About("A page of entries", ref("Entries"), query=_PAGE),
    ("GET", "/zit/v1/entries/{key}"): About("One entry with its fields", ref("EntryDetails")),
    ("GET", "/zit/v1/entries/{key}/differences/{other}"): About(
        "The fields in which two entries differ", ref("Differences")
    ),
    ("GET", "/zit/v1/entries/{key}/nearest"): About(
        "The entries that differ from one in the fewest fields",
        ref("Nearest"),
        query={"limit": {"type": "integer", "minimum": 1, "maximum": nearest.MOST}, "older": FLAG},
    ),
    ("DELETE", "/zit/v1/entries/{key}"): About("Remove one entry", record({"removed": WHOLE})),
    ("POST", "/zit/v1/entries/remove"): About("Remove entries", record({"removed": WHOLE}), ref("Keys")),
    ("POST", "/zit/v1/entries/pin"): About("Keep entries", record({"pinned": WHOLE}), ref("Keys")),
    ("POST", "/zit/v1/entries/unpin"): About(
        "Let entries go again", record({"unpinned": WHOLE}), ref("Keys")
    ),
    ("POST", "/zit/v1/entries/clear"): About(
        "Remove all entries of a namespace", record({"removed": WHOLE}), record({}, {"namespace": MAYBE_TEXT})
    ),
    ("GET", "/zit/v1/entries/{key}/thumbnail"): About(
        "An entry's picture, small",
        {"type": "string", "format": "binary"},
        query={"size": {"enum": list(thumbnails.SIZES)}, "v": TEXT},
        types=("image/webp", *_PICTURE),
        statuses=(200, 304),
    ),
    ("POST", "/zit/v1/entries/{key}/audit"): About("Render an entry again, and compare", ref("Audit")),
    ("GET", "/zit/v1/answers"): About(
        "The latest answers of this process",
        record({"answers": list_of(ref("Answered"))}),
        query={"namespace": TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": answers.MOST}},
    ),
    ("GET", "/zit/v1/history"): About(
        "What was counted by all processes, by time",
        ref("History"),
        query={"namespace": TEXT, "hours": {"type": "number", "minimum": 0.1, "maximum": MOST_HOURS}},
    ),
    ("GET", "/zit/v1/metrics"): _METRICS,
    ("GET", "/metrics"): _METRICS,
    ("GET", "/zit/v1/events"): About(
        "What happens, as it happens", TEXT, query={"namespace": TEXT}, types=(EVENTS,), statuses=(200, 429)
    ),
    ("POST", "/zit/v1/explain"): About("What would become of a request", ref("Explanation"), ref("Request")),
    ("GET", "/zit/v1/models"): About("Weights, and what is held where", {"type": "object"}),
    ("POST", "/zit/v1/models/preload"): About(
        "Load weights",
        record({"loaded": FLAG, "state": TEXT}),
        record({"model": TEXT}),
        statuses=(200, 202),
    ),
    ("POST", "/zit/v1/models/unload"): About(
        "Let go of weights",
        record({"unloaded": WHOLE, "state": TEXT}),
        _MODEL_NAME,
        statuses=(200, 202),
    ),
    ("GET", "/zit/v1/plugins"): About(
        "Plugins and their troubles", record({"plugins": list_of(ANY), "troubles": list_of(ANY)})
    ),
    ("GET", "/zit/v1/queue"): About("What is being made", record({"running": list_of({"type": "object"})})),
    ("POST", "/zit/v1/queue/{number}/stop"): About("Stop one picture", record({"stopped": FLAG})),
    ("GET", "/zit/"): About("The dashboard", TEXT, types=_PAGE_TYPES, statuses=(200, 304)),
    ("GET", "/zit"): About("Leads to the dashboard", TEXT, types=_PAGE_TYPES, statuses=(200, 307)),
    ("GET", "/"): About("Leads to the dashboard", TEXT, types=_PAGE_TYPES, statuses=(200, 307)),
    ("GET", "/zit/assets/{path...}"): About(
        "A file of the dashboard", TEXT, types=("text/javascript", "text/css"), statuses=(200, 304)
    ),
    ("POST", "/v1/images/generations"): About(
        "OpenAI's Images API", ref("OpenAIGenerated"), ref("OpenAIGenerate")
    ),
    ("GET", "/v1/models"): About(
        "The names of weights", record({"object": TEXT, "data": list_of(ref("Model"))})
    ),
    ("GET", "/v1/models/{id...}"): About("One name of weights", ref("Model")),
    ("POST", "/sdapi/v1/txt2img"): About("The webui's txt2img", ref("WebuiGenerated"), ref("WebuiGenerate")),
    ("POST", "/sdapi/v1/img2img"): About("The webui's img2img", ref("WebuiGenerated"), ref("WebuiGenerate")),
    ("POST", "/sdapi/v1/interrupt"): About("Stop what runs", {"type": "object"}),
    ("POST", "/sdapi/v1/skip"): About("Stop what runs", {"type": "object"}),
    ("POST", "/sdapi/v1/options"): About("Choose the checkpoint", {"type": "null"}, {"type": "object"}),
    ("POST", "/sdapi/v1/refresh-checkpoints"): About("Look for weights again", {"type": "null"}),
    **{("GET", f"/sdapi/v1/{name}"): about for name, about in {**_LISTS, **_OBJECTS}.items()},
}

_ERRORS = {Dialect.ZIT: "Error", Dialect.OPENAI: "OpenAIError", Dialect.A1111: "WebuiError"}
_ANY_ERRORS = (400, 401, 403, 404, 405, 503)
_BODY_ERRORS = (408, 413)
_WORK_ERRORS = (409, 429, 504)


def routes() -> list[Route]:
    return [Route("GET", "/zit/v1/openapi.json", document)]


async def document(call: Call) -> Answer:
    """Answer with the document of the routes that this service has."""
    return json_answer(document_of(call.service.routes))


def document_of(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the OpenAPI document of these routes. What nobody described is left out."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        about = ABOUT.get((route.method, route.path))
        if about is not None:
            path = route.path.replace("...}", "}")
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, about)
    return {
        "openapi": "3.1.0",
        "info": {"title": "zit_ext", "version": __version__, "description": "A cache for Z-Image-Turbo."},
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, about: About) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)", route.path)
    told: dict[str, Any] = {
        "summary": about.summary,
        "operationId": f"{route.method.lower()} {route.path}",
        "parameters": [
            *(
                _parameter(name, "path", DIGEST if name in ("key", "other", "digest") else TEXT)
                for name in names
            ),
            *(_parameter(name, "query", schema) for name, schema in (about.query or {}).items()),
        ],
        "responses": _responses(route, about),
    }
    if about.body is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": about.body}}}
    if route.scope is not None or route.path.startswith("/zit/blobs/"):
        told["security"] = [{"token": []}, {}]
    return told


def _parameter(name: str, where: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _responses(route: Route, about: About) -> dict[str, Any]:
    error = {"description": "What went wrong", "content": {JSON: {"schema": ref(_ERRORS[route.dialect])}}}
    codes = list(_ANY_ERRORS)
    if about.body is not None:
        codes += _BODY_ERRORS
    if route.scope is Scope.GENERATE or route.scope is Scope.ADMIN:
        codes += _WORK_ERRORS
    codes += [status for status in about.statuses if status >= 400]
    told: dict[str, Any] = {str(code): error for code in sorted(set(codes))}
    for status in about.statuses:
        if status >= 400:
            continue
        told[str(status)] = {"description": "Done"}
        if about.answer is not None and status != 304:
            told[str(status)]["content"] = {
                kind: {"schema": about.answer if kind == JSON else {"type": "string"}} for kind in about.types
            }
    return told
