"""Small pictures of entries for galleries: made away from the loop, a few at a time, and held in memory."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from ..errors import BlobCorruptError, RequestError
from ..records import Blob
from ..request_ids import bearing_id
from .auth import Scope
from .entries import stored, visible
from .errors import HttpError
from .messages import Answer
from .preconditions import is_known_already
from .queries import refuse
from .service import Call, Route

SIZES = ("128", "256")
MAX_BYTES = 24_000_000
"""Bytes of thumbnails that are held: some 2,000 of 256 pixels."""
AT_ONCE = 2
"""Pictures that are made small at the same time: each takes a core, and some memory."""
_MAX_PIXELS = 1 << 26
_WEBP = "image/webp"
_QUALITY = 80


def routes() -> list[Route]:
    thumbnails = Thumbnails()
    path = "/zit/v1/entries/{key}/thumbnail"
    return [Route("GET", path, stored(thumbnails.get), scope=Scope.READ)]


class Thumbnails:
    """Answers with small pictures, and remembers those that were asked for last."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._made: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        # Threads of its own: a gallery asks for dozens, and nobody who needs one is to wait behind them.
        self._threads = ThreadPoolExecutor(AT_ONCE, "zit-thumbnails")

    async def get(self, call: Call) -> Answer:
        """Answer with an entry's picture of at most `size` pixels a side, as WebP; without Pillow, with all.

        With `v`, the beginning of the blob's digest, the URL names one picture for ever.
        """
        query = dict(call.asked.query)
        size, version = query.pop("size", "256"), query.pop("v", None)
        refuse(query)
        if size not in SIZES:
            raise RequestError("size", size, f"give {' or '.join(SIZES)}")
        found = await asyncio.to_thread(visible, call, call.names["key"])
        blob = found.entry.blob
        if not blob.media_type.startswith("image/"):
            raise HttpError(404, "no_picture", "what is stored there is no picture")
        whole = find_spec("PIL") is None
        tag = blob.digest if whole else f"{blob.digest}-{size}"
        ever = version is not None and len(version) >= 8 and blob.digest.startswith(version)
        headers = {
            "etag": f'"{tag}"',
            "cache-control": "private, max-age=31536000, immutable" if ever else "private, no-cache",
            "content-security-policy": "default-src 'none'; sandbox",
        }
        if is_known_already(call.asked.headers, tag):
            return Answer(status=304, headers=headers)
        if whole:
            data = await asyncio.to_thread(self._read, call, blob)
            return Answer(headers={**headers, "content-type": blob.media_type}, body=data)
        small = self._at_hand(blob.digest, size)
        if small is None:
            loop = asyncio.get_running_loop()
            small = await loop.run_in_executor(self._threads, bearing_id(self._small), call, blob, size)
        return Answer(headers={**headers, "content-type": _WEBP}, body=small)

    def _small(self, call: Call, blob: Blob, size: str) -> bytes:
        made = self._at_hand(blob.digest, size)  # somebody else may have asked for it meanwhile
        if made is None:
            made = shrunk(self._read(call, blob), int(size))
            self._hold(blob.digest, size, made)
        return made

    def _read(self, call: Call, blob: Blob) -> bytes:
        store = call.runtime.store
        try:
            return store.read_blob(blob.digest)
        except BlobCorruptError:
            store.suspect(blob.digest)
            raise HttpError(404, "no_such_entry", "there is no entry of this key") from None

    def _at_hand(self, digest: str, size: str) -> bytes | None:
        with self._lock:
            made = self._made.get((digest, size))
            if made is not None:
                self._made.move_to_end((digest, size))
            return made

    def _hold(self, digest: str, size: str, made: bytes) -> None:
        with self._lock:
            self._bytes += len(made) - len(self._made.get((digest, size), b""))  # two may have made it
            self._made[digest, size] = made
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._made.popitem(last=False)[1])


def shrunk(data: bytes, size: int) -> bytes:
    """Return a picture as WebP with sides of at most so many pixels. Raises HttpError if it is none."""
    from PIL import Image  # only where somebody looks at a gallery

    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise HttpError(404, "no_picture", "the picture is too large to be made small")
            picture.draft("RGB", (size, size))  # of a JPEG no more is decoded than is needed
            picture.thumbnail((size, size), reducing_gap=2.0)
            mode = "RGBA" if picture.mode in ("RGBA", "LA", "PA") else "RGB"
            small = io.BytesIO()
            picture.convert(mode).save(small, "WEBP", quality=_QUALITY, method=2)
    except HttpError:
        raise
    except Exception as error:  # whatever an imported file did to the decoder
        raise HttpError(404, "no_picture", "what is stored there cannot be shown small") from error
    return small.getvalue()
