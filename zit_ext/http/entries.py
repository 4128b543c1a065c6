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

from ..entry_json import entry_json, json_fields
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
from .queries import flag, number, refuse
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
    refuse(query)
    return json_answer(await asyncio.to_thread(stats_of, call, namespace))


def stats_of(call: Call, namespace: str | None) -> dict[str, Any]:
    """Return what is stored in a namespace (None: in all), and what the caller may know of the engine."""
    store = call.runtime.store
    told: dict[str, Any] = {
        "namespace": namespace,
        "store": asdict(store.usage(namespace)),
        "running": len(call.service.board.running(namespace)),
    }
    if call.who.every_namespace:
        snapshot = call.runtime.metrics.snapshot()
        told["engine"] = {**asdict(snapshot), "hit_rate": snapshot.hit_rate}
        told["namespaces"] = [
            {"name": each.name, "entries": each.entries, "bytes": each.bytes} for each in store.namespaces()
        ]
    return told


async def entries(call: Call) -> Answer:
    """Answer with a page of entries, the newest first unless `order` says otherwise.

    `total=true` has all that fit counted, too.
    """
    query = dict(call.asked.query)
    counted = flag("total", query.pop("total", "false"))
    selection = selection_of(call, query)
    store = call.runtime.store
    if counted or selection.reads_texts:
        page, total = await asyncio.to_thread(store.page, selection)
        more = selection.offset + selection.limit < total
    else:
        # One more than asked for says whether there are more.
        found = await asyncio.to_thread(store.entries, replace(selection, limit=selection.limit + 1))
        page, more, total = found[: selection.limit], len(found) > selection.limit, None
    told: dict[str, Any] = {
        "entries": [shown(call, each) for each in page],
        "offset": selection.offset,
        "limit": selection.limit,
        "more": more,
    }
    if counted:
        told["total"] = total
    return json_answer(told)


def selection_of(call: Call, query: dict[str, str]) -> Selection:
    """Return the entries that a query names, in the caller's namespace. Raises RequestError, HttpError."""
    chosen: dict[str, Any] = {"namespace": call.who.seen_namespace(query.pop("namespace", None))}
    for name in _TEXTS:
        if name in query:
            chosen[name] = query.pop(name)
    for name, kind in _NUMBERS.items():
        if name in query:
            chosen[name] = number(name, query.pop(name), kind)
    for name in _FLAGS:
        if name in query:
            chosen[name] = flag(name, query.pop(name))
    chosen["order"] = query.pop("order", "newest")
    if chosen["order"] not in ORDERS:
        raise RequestError("order", chosen["order"], f"give one of {', '.join(ORDERS)}")
    chosen["limit"] = number("limit", query.pop("limit", "100"), int, least=1, most=MOST)
    chosen["offset"] = number("offset", query.pop("offset", "0"), int, least=0)
    refuse(query)
    return Selection(**chosen)


async def entry(call: Call) -> Answer:
    """Answer with one entry and every field of its request."""
    found = await asyncio.to_thread(visible, call, call.names["key"])
    told = {**shown(call, found.entry), "fields": json_fields(found.fields), "redacted": found.redacted}
    return json_answer(told)


async def compare(call: Call) -> Answer:
    """Answer with the fields in which two entries differ."""
    one = await asyncio.to_thread(visible, call, call.names["key"])
    other = await asyncio.to_thread(visible, call, call.names["other"])
    found = differences(one.fields, other.fields, readable=not (one.redacted or other.redacted))
    return json_answer({"keys": [one.entry.key, other.entry.key], "differences": pairs(found)})


async def remove_one(call: Call) -> Answer:
    found = await asyncio.to_thread(visible, call, call.names["key"])
    await asyncio.to_thread(call.runtime.store.remove, [found.entry.key])
    call.service.shelf.drop(found.entry.blob.digest, seen(call))
    return json_answer({"removed": 1})


async def remove(call: Call) -> Answer:
    keys = await _keys(call)
    count = await asyncio.to_thread(call.runtime.store.remove, [each.entry.key for each in keys])
    for each in keys:
        call.service.shelf.drop(each.entry.blob.digest, seen(call))
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
    refuse(values)
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
        "entry": None if found.entry is None else shown(call, found.entry),
        "nearest": None if found.nearest is None else shown(call, found.nearest),
        "differences": pairs(found.differences or {}),
    }


def shown(call: Call, entry: Entry) -> dict[str, Any]:
    """Return what the index says of an entry, with names for places and where its picture is."""
    return {
        **entry_json(entry),
        "model": call.service.catalogue.name_of(entry.model),
        "url": f"/zit/blobs/{entry.blob.digest}",
    }


def pairs(found: Mapping[str, tuple[FieldValue, FieldValue]]) -> dict[str, list[Any]]:
    return {name: [json_fields(one), json_fields(other)] for name, (one, other) in found.items()}


def visible(call: Call, key: str) -> EntryDetails:
    """Return an entry that the caller may see. Raises HttpError: not there and not theirs are alike."""
    found = call.runtime.store.entry(key) if _KEY.fullmatch(key) else None
    if found is None or seen(call) not in (None, found.entry.namespace):
        raise HttpError(404, "no_such_entry", "there is no entry of this key")
    return found


async def _keys(call: Call) -> list[EntryDetails]:
    values = await call.json()
    keys = values.pop("keys", None)
    refuse(values)
    if not isinstance(keys, list) or not 1 <= len(keys) <= 1000 or not all(isinstance(k, str) for k in keys):
        raise RequestError("keys", "...", "give a list of 1 to 1,000 keys")

    def look(wanted: Sequence[str]) -> list[EntryDetails]:
        return [visible(call, key) for key in dict.fromkeys(wanted)]

    return await asyncio.to_thread(look, keys)


def seen(call: Call) -> str | None:
    return call.who.seen_namespace(None)
