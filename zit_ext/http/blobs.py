"""Pictures by digest under `/zit/blobs/`: immutable, ranged, at hand while hot, else read and verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from ..errors import BlobCorruptError, StoreError
from ..records import Blob
from ..results.store import ResultStore
from .auth import Scope
from .errors import HttpError
from .messages import Answer, FilePart
from .preconditions import is_known_already, wanted_part
from .service import Call, Route

IN_MEMORY = 16_000_000
"""Blobs up to so many bytes are read and verified in one go; larger ones are sent by the kernel."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REMEMBERED = 1000


def routes() -> list[Route]:
    blobs = Blobs()
    # Who may is asked by the handler: a signed URL needs no token.
    return [Route("GET", "/zit/blobs/{digest}", blobs.get)]


class Blobs:
    """Answers with blobs, and remembers which files were verified."""

    def __init__(self) -> None:
        self._verified: OrderedDict[tuple[str, int, int, int], None] = OrderedDict()

    async def get(self, call: Call) -> Answer:
        digest = call.names["digest"].partition(".")[0]
        service = call.service
        signed = service.signer.namespace_of(digest, call.asked.query) if call.asked.query else None
        namespace = signed or service.gate.admit(call.asked, Scope.READ).seen_namespace(None)
        try:
            item = service.shelf.get(digest, namespace)
            if item is not None:
                return _answer(call, digest, item.media_type, item.saved(namespace), item.data)
            if not _DIGEST.fullmatch(digest):
                raise _unknown()
            found = await asyncio.to_thread(self._find, call, digest, namespace)
        except StoreError:
            raise _unknown() from None
        if found is None:
            raise _unknown()
        blob, saves, body = found
        return _answer(call, digest, blob.media_type, saves, body, blob.size)

    def _find(
        self, call: Call, digest: str, namespace: str | None
    ) -> tuple[Blob, float, bytes | Path] | None:
        store = call.runtime.store
        generation = store.generation()
        found = store.find_blob(digest, namespace)
        if found is None:
            return None
        blob, saves = found
        try:
            if blob.size > IN_MEMORY:
                return blob, saves, self._verified_file(store, blob)
            data = store.read_blob(digest)
        except BlobCorruptError:
            store.suspect(digest)
            return None
        call.service.shelf.put_known(digest, data, blob.media_type, namespace, generation, saves)
        return blob, saves, data

    def _verified_file(self, store: ResultStore, blob: Blob) -> Path:
        """Return the file, after a look at every byte; the same file is looked at once."""
        path = store.blob_file(blob.digest)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (blob.digest, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
                if seen in self._verified:
                    return path
                running = hashlib.sha256()
                while piece := file.read(1 << 20):
                    running.update(piece)
        except OSError as error:
            raise BlobCorruptError(blob.digest, f"it cannot be read: {error.strerror}") from None
        if running.hexdigest() != blob.digest:
            raise BlobCorruptError(blob.digest, "its bytes changed")
        self._verified[seen] = None
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return path


def _unknown() -> HttpError:
    # The same words for what is not there and for what another namespace has.
    return HttpError(404, "no_such_blob", "nothing of that digest is stored")


@lru_cache(maxsize=1024)
def _head(digest: str, saves: float) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "etag": f'"{digest}"',
            "cache-control": "private, max-age=31536000, immutable",
            "cache-status": "zit_ext; hit",
            "x-generation-time-saved": f"{saves:.3f}",
            "accept-ranges": "bytes",
        }
    )


def _answer(
    call: Call, digest: str, media_type: str, saves: float, body: bytes | Path, size: int | None = None
) -> Answer:
    asked, head = call.asked, _head(digest, saves)
    if is_known_already(asked.headers, digest):
        return Answer(304, head)
    headers = {**head, "content-type": media_type, "content-security-policy": "default-src 'none'; sandbox"}
    if size is None:
        assert isinstance(body, bytes)
        size = len(body)
    part = wanted_part(asked.headers, size, digest) if asked.method == "GET" else None
    start, end = part or (0, size)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if part is None else 206
    if isinstance(body, Path):
        return Answer(status=status, headers=headers, body=FilePart(body, start, end - start))
    return Answer(status=status, headers=headers, body=body if part is None else body[start:end])
