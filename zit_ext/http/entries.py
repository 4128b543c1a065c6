"""What is stored, for dashboards and hosts: list, look, remove, pin, clear, explain.

Keys are given whole: the beginning of one could tell of entries of another namespace.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..errors import RequestError, StoreError
from ..explaining import Explainer, Explanation, differences
from ..records import Entry, FieldValue
from ..request_json import request_of
from ..results.details import EntryDetails
from ..results.selection import ORDERS, Selection
from .asking import admitted, sent_image
from .auth import Scope
from .errors import HttpError
from .messages import Answer, json_answer
from .service import Call, Handler, Route

MOST = 500
"""Entries on one page."""

_KEY = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("prompt", "model")
_NUMBERS: Mapping[str, Callable[[str], Any]] = {
    "created_after": float,
    "created_before": float,
    "min_bytes": int,
    "max_bytes": int,
}
_FLAGS = ("pinned", "stale")


def routes() -> list[Route]:
    read, admin = Scope.READ, Scope.ADMIN
    return [
        Route("GET", "/zit/v1/stats", stored(stats), scope=read),
        Route("GET", "/zit/v1/entries", stored(entries), scope=read),
        Route("GET", "/zit/v1/entries/{key}", stored(entry), scope=read),
        Route("GET", "/zit/v1/entries/{key}/differences/{other}", stored(compare), scope=read),
        Route("DELETE", "/zit/v1/entries/{key}", stored(remove_one), scope=admin),
        Route("POST", "/zit/v1/entries/remove", stored(remove), scope=admin),
        Route("POST", "/zit/v1/entries/pin", stored(pin), scope=admin),
        Route("POST", "/zit/v1/entries/unpin", stored(unpin), scope=admin),
        Route("POST", "/zit/v1/entries/clear", stored(clear), scope=admin),
        Route("POST", "/zit/v1/explain", stored(explain), scope=read),
    ]


def stored(handler: Handler) -> Handler:
    """Return the handler; a store that cannot be asked is 503, and no secret."""

    async def answer(call: Call) -> Answer:
        try:
            return await handler(call)
        except StoreError:
            raise HttpError(
                503, "store_unavailable", "the result store cannot be asked now", headers={"retry-after": "5"}
            ) from None

    return answer


async def stats(call: Call) -> Answer:
    """Answer with what is stored, and, to who may see every namespace, with what the engine counted."""
    query = dict(call.asked.query)
    namespace = call.who.seen_namespace(query.pop("namespace", None))
    _refuse(query)
    store = call.runtime.store
    usage = await asyncio.to_thread(store.usage, namespace)
    told: dict[str, Any] = {
        "namespace": namespace,
        "store": asdict(usage),
        "running": len(call.service.board.running(namespace)),
    }
    if call.who.every_namespace:
        snapshot = call.runtime.metrics.snapshot()
        spaces = await asyncio.to_thread(store.namespaces)
        told["engine"] = {**asdict(snapshot), "hit_rate": snapshot.hit_rate}
        told["namespaces"] = [
            {"name": each.name, "entries": each.entries, "bytes": each.bytes} for each in spaces
        ]
    return json_answer(told)


async def entries(call: Call) -> Answer:
    """Answer with a page of entries, the newest first unless `order` says otherwise."""
    selection = selection_of(call)
    # One more than asked for says whether there are more.
    one_more = replace(selection, limit=selection.limit + 1)
    found = await asyncio.to_thread(call.runtime.store.entries, one_more)
    page = found[: selection.limit]
    return json_answer(
        {
            "entries": [entry_json(call, each) for each in page],
            "offset": selection.offset,
            "limit": selection.limit,
            "more": len(found) > len(page),
        }
    )


def selection_of(call: Call) -> Selection:
    """Return the entries that a query names, in the caller's namespace. Raises RequestError, HttpError."""
    query = dict(call.asked.query)
    chosen: dict[str, Any] = {"namespace": call.who.seen_namespace(query.pop("namespace", None))}
    for name in _TEXTS:
        if name in query:
            chosen[name] = query.pop(name)
    for name, kind in _NUMBERS.items():
        if name in query:
            chosen[name] = _number(name, query.pop(name), kind)
    for name in _FLAGS:
        if name in query:
            chosen[name] = _flag(name, query.pop(name))
    chosen["order"] = query.pop("order", "newest")
    if chosen["order"] not in ORDERS:
        raise RequestError("order", chosen["order"], f"give one of {', '.join(ORDERS)}")
    chosen["limit"] = _number("limit", query.pop("limit", "100"), int, least=1, most=MOST)
    chosen["offset"] = _number("offset", query.pop("offset", "0"), int, least=0)
    _refuse(query)
    return Selection(**chosen)


async def entry(call: Call) -> Answer:
    """Answer with one entry and every field of its request."""
    found = await asyncio.to_thread(_details, call, call.names["key"])
    shown = {**entry_json(call, found.entry), "fields": plain(found.fields), "redacted": found.redacted}
    return json_answer(shown)


async def compare(call: Call) -> Answer:
    """Answer with the fields in which two entries differ."""
    one = await asyncio.to_thread(_details, call, call.names["key"])
    other = await asyncio.to_thread(_details, call, call.names["other"])
    found = differences(one.fields, other.fields, readable=not (one.redacted or other.redacted))
    return json_answer({"keys": [one.entry.key, other.entry.key], "differences": _pairs(found)})


async def remove_one(call: Call) -> Answer:
    found = await asyncio.to_thread(_details, call, call.names["key"])
    await asyncio.to_thread(call.runtime.store.remove, [found.entry.key])
    call.service.shelf.drop(found.entry.blob.digest, _seen(call))
    return json_answer({"removed": 1})


async def remove(call: Call) -> Answer:
    keys = await _keys(call)
    count = await asyncio.to_thread(call.runtime.store.remove, [each.entry.key for each in keys])
    for each in keys:
        call.service.shelf.drop(each.entry.blob.digest, _seen(call))
    return json_answer({"removed": count})


async def pin(call: Call) -> Answer:
    keys = [each.entry.key for each in await _keys(call)]
    return json_answer({"pinned": await asyncio.to_thread(call.runtime.store.pin, keys)})


async def unpin(call: Call) -> Answer:
    keys = [each.entry.key for each in await _keys(call)]
    return json_answer({"unpinned": await asyncio.to_thread(call.runtime.store.unpin, keys)})


async def clear(call: Call) -> Answer:
    """Remove every entry of a namespace; `{"namespace": null}` is all, for who may see all."""
    values = await call.json()
    wanted = values.pop("namespace", None)
    _refuse(values)
    if wanted is not None and not isinstance(wanted, str):
        raise RequestError("namespace", wanted, "give a name, or null")
    namespace = call.who.seen_namespace(wanted)
    removed = await asyncio.to_thread(call.runtime.store.clear, namespace)
    call.service.shelf.clear(namespace)
    return json_answer({"removed": removed})


async def explain(call: Call) -> Answer:
    """Say what would become of a request, and of a miss which fields differ from the nearest entry."""
    (request,) = admitted(call, request_of(await call.json(), sent_image), 1)
    explainer = Explainer(call.runtime)
    found = await asyncio.to_thread(explainer.explain, request, time.time())
    return json_answer(_explained(call, found))


def _explained(call: Call, found: Explanation) -> dict[str, Any]:
    return {
        "verdict": found.verdict.value,
        "reason": found.reason,
        "key": found.key,
        "entry": None if found.entry is None else entry_json(call, found.entry),
        "nearest": None if found.nearest is None else entry_json(call, found.nearest),
        "differences": _pairs(found.differences or {}),
    }


def entry_json(call: Call, entry: Entry) -> dict[str, Any]:
    """Return what the index says of an entry, as JSON has it. Times are Unix seconds."""
    return {
        "key": entry.key,
        "digest": entry.content_digest,
        "blob": entry.blob.digest,
        "url": f"/zit/blobs/{entry.blob.digest}",
        "media_type": entry.blob.media_type,
        "size": entry.blob.size,
        "namespace": entry.namespace,
        "created_at": entry.created_at,
        "used_at": entry.used_at,
        "expires_at": entry.expires_at,
        "uses": entry.uses,
        "cost": entry.cost,
        "pinned": entry.pinned,
        "model": call.service.catalogue.name_of(entry.model),
        "prompt": entry.prompt,
    }


def plain(value: FieldValue) -> Any:
    """Return fields as JSON has them; bytes as their hexadecimal digits."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def _pairs(found: Mapping[str, tuple[FieldValue, FieldValue]]) -> dict[str, list[Any]]:
    return {name: [plain(one), plain(other)] for name, (one, other) in found.items()}


def _details(call: Call, key: str) -> EntryDetails:
    """Return an entry that the caller may see. Raises HttpError: not there and not theirs are alike."""
    found = call.runtime.store.entry(key) if _KEY.fullmatch(key) else None
    seen = _seen(call)
    if found is None or seen not in (None, found.entry.namespace):
        raise HttpError(404, "no_such_entry", "there is no entry of this key")
    return found


async def _keys(call: Call) -> list[EntryDetails]:
    values = await call.json()
    keys = values.pop("keys", None)
    _refuse(values)
    if not isinstance(keys, list) or not 1 <= len(keys) <= 1000 or not all(isinstance(k, str) for k in keys):
        raise RequestError("keys", "...", "give a list of 1 to 1,000 keys")

    def look(wanted: Sequence[str]) -> list[EntryDetails]:
        return [_details(call, key) for key in dict.fromkeys(wanted)]

    return await asyncio.to_thread(look, keys)


def _seen(call: Call) -> str | None:
    return call.who.seen_namespace(None)


def _number(
    field: str, text: str, kind: Callable[[str], Any], *, least: float = 0, most: float = 2**53
) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise RequestError(field, text, f"give a number from {least:g} to {most:g}")
    return number


def _flag(field: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise RequestError(field, text, "give true or false")
    return text == "true"


def _refuse(left: Mapping[str, Any]) -> None:
    for name, value in left.items():
        raise RequestError(name, value, "there is no such field")
