"""Results that wait to be written: they answer already, and are encoded at most once."""

from __future__ import annotations

import hashlib
import threading
from typing import NamedTuple

from ..codecs import PNG, Pixels, encode_png
from ..records import Blob, Content, Encoded, Entry, Fingerprint
from . import checksums
from .decoding import check_decodable
from .rows import expiry


class Ready(NamedTuple):
    """A result in the form in which it is kept."""

    content: Encoded
    blob: Blob
    content_digest: str
    checksum: bytes


class Waiting:
    """One result between `keep` and the disk. Any thread may ask for it."""

    def __init__(
        self,
        fingerprint: Fingerprint,
        content: Content,
        *,
        namespace: str,
        cost: float,
        ttl_seconds: float | None,
        model: str,
        prompt: str | None,
        pinned: bool,
        created_at: float,
        now: float,
    ) -> None:
        self.fingerprint = fingerprint
        self.namespace = namespace
        self.cost = cost
        self.ttl_seconds = ttl_seconds
        self.model = model
        self.prompt = prompt
        self.pinned = pinned
        self.created_at = created_at
        self.now = now
        self.redacted = False
        """The canonical fields hold digests in the place of texts already."""
        self.ready: Ready | None = None
        self._content = content
        self._lock = threading.Lock()

    @property
    def has_to_be_encoded(self) -> bool:
        return self.ready is None and isinstance(self._content, Pixels)

    def get_ready(self) -> Ready:
        """Encode, digest and check the result; the second caller waits for the first.

        Raises CodecError if the bytes cannot be decoded to what they should be.
        """
        with self._lock:
            if self.ready is None:
                self.ready = _ready(self._content)
            return self.ready

    def entry(self, ready: Ready, ttl_seconds: float | None) -> Entry:
        """Return the entry as it will be, but for its place in the order of use."""
        return Entry(
            key=self.fingerprint.key,
            blob=ready.blob,
            content_digest=ready.content_digest,
            namespace=self.namespace,
            created_at=self.created_at,
            used_at=self.created_at,
            expires_at=None if self.pinned else expiry(ttl_seconds, self.now),
            cost=self.cost,
            pinned=self.pinned,
            model=self.model,
            prompt=self.prompt,
        )


def _ready(content: Content) -> Ready:
    if isinstance(content, Pixels):
        data, media_type, content_digest = encode_png(content), PNG, content.digest
    else:
        data, media_type, content_digest = content.data, content.media_type, None
    check_decodable(media_type, data, content_digest)
    digest = hashlib.sha256(data).hexdigest()
    return Ready(
        Encoded(media_type, data),
        Blob(digest, len(data), media_type),
        content_digest or digest,
        checksums.checksum(data),
    )


def choose_ttl(waiting: Waiting, of_namespace: float | None, default: float) -> float | None:
    """Return the time to live: the request's, else the namespace's, else the setting; None: for ever."""
    for seconds in (waiting.ttl_seconds, of_namespace):
        if seconds is not None:
            return seconds or None
    return default or None
