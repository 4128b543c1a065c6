"""`/zit/v1/entries/{key}/audit`: renders an answer again, and says whether it is the same to the bit."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
from typing import Any

from ..auditing import Finding, NotAuditableError, judged, request_again
from ..codecs import PNG, CodecError, decode_png, encode_png
from ..errors import BlobCorruptError, ModelError, PluginError, RequestError, StoreError
from ..found_weights import source_of
from ..picture_differences import Differences, differences
from ..records import Request, Result
from ..results.details import EntryDetails
from .asking import Making
from .auth import Scope
from .entries import stored, visible
from .errors import as_http
from .messages import Answer, json_answer
from .service import Call, Route

log = logging.getLogger(__name__)


def routes() -> list[Route]:
    return [Route("POST", "/zit/v1/entries/{key}/audit", stored(audit), scope=Scope.ADMIN)]


async def audit(call: Call) -> Answer:
    """Render the entry's request again, past the cache, and compare the pixels with the stored ones."""
    details = await asyncio.to_thread(visible, call, call.names["key"])
    try:
        request = await asyncio.to_thread(_request_again, call, details)
    except NotAuditableError as error:
        return json_answer(_told(auditable=False, why=str(error)))
    except (ModelError, PluginError, RequestError) as error:
        log.info("entry %s cannot be audited: %s", details.entry.key, error)
        return json_answer(_told(auditable=False, why=as_http(error).message))
    (made,) = await Making(call, [request]).answers()
    return json_answer(await asyncio.to_thread(_compared, call, details, made.result))


def _request_again(call: Call, details: EntryDetails) -> Request:
    find = functools.partial(source_of, settings=call.runtime.settings, environ=os.environ)
    return request_again(details, call.runtime, find)


def _compared(call: Call, details: EntryDetails, result: Result) -> dict[str, Any]:
    entry = details.entry
    found = judged(entry, result)
    told = _told(auditable=True, why=found.words or None, seconds=result.render_seconds)
    told["rendered"] = _at_hand(call, result.data(), result.media_type, entry.namespace)
    if found.finding is Finding.SAME:
        return told | {"identical": True, "differing_pixels": 0, "largest_difference": 0}
    apart = _apart(call, details, result)
    if apart is None:
        return told
    told |= {"differing_pixels": apart.pixels, "largest_difference": apart.largest}
    if apart.picture is not None:
        told["difference"] = _at_hand(call, encode_png(apart.picture), PNG, entry.namespace)
    return told


def _apart(call: Call, details: EntryDetails, result: Result) -> Differences | None:
    """Return in which pixels both differ, if both are pictures that we can read."""
    blob = details.entry.blob
    if not result.media_type == blob.media_type == PNG:
        return None
    try:
        data = call.runtime.store.read_blob(blob.digest)
        return differences(decode_png(data), result.pixels())
    except BlobCorruptError:
        call.runtime.store.suspect(blob.digest)
        return None
    except (CodecError, StoreError):
        return None


def _at_hand(call: Call, data: bytes, media_type: str, namespace: str) -> str:
    """Hold a picture that nobody keeps, and return its URL: it can be fetched for ten minutes."""
    digest = hashlib.sha256(data).hexdigest()
    call.service.shelf.put_fresh(digest, data, media_type, namespace)
    return f"/zit/blobs/{digest}"


def _told(*, auditable: bool, why: str | None, seconds: float | None = None) -> dict[str, Any]:
    return {
        "auditable": auditable,
        "identical": False,
        "why": why,
        "seconds": seconds,
        "differing_pixels": None,
        "largest_difference": None,
        "rendered": None,
        "difference": None,
    }
