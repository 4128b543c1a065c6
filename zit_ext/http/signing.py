"""URLs that need no token: whoever was given one may fetch that picture, for an hour."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

VALID_SECONDS = 3600


class Signer:
    """Signs and checks URLs of pictures. Its secret lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._secret = secrets.token_bytes(32)
        self._clock = clock

    def query(self, digest: str, namespace: str) -> str:
        """Return what to put behind the question mark."""
        until = int(self._clock()) + VALID_SECONDS
        return urlencode(
            {"until": until, "namespace": namespace, "signature": self._sign(digest, namespace, until)}
        )

    def namespace_of(self, digest: str, query: Mapping[str, str]) -> str | None:
        """Return the namespace whose picture this query opens, or None if it opens nothing."""
        namespace, given = query.get("namespace", ""), query.get("signature", "")
        try:
            until = int(query.get("until", ""))
        except ValueError:
            return None
        signature = self._sign(digest, namespace, until)
        right = hmac.compare_digest(signature.encode(), given.encode("utf-8", "surrogateescape"))
        return namespace if right and self._clock() < until else None

    def _sign(self, digest: str, namespace: str, until: int) -> str:
        text = f"{digest}\n{until}\n{namespace}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()
