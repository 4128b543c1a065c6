"""How much one server takes on: size and time of bodies, requests a second, streams at once."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..settings import Settings
from .auth import Caller, Scope
from .errors import HttpError
from .messages import Asked

BODY_SECONDS = 30.0
"""How long a body may take to come."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Limits:
    """The limits of one service."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_body = settings.http_max_body
        self.max_streams = settings.http_max_streams
        self.seconds = settings.http_timeout
        self._rate = settings.http_rate
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._streams: set[int] = set()
        self._numbers = itertools.count()
        self.draining = False
        """The server is about to end: nothing new is begun."""
        self.handing_back = False
        """What still runs is given up: its client is told to ask again."""

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def admit(self, caller: Caller, scope: Scope | None) -> None:
        """Count a request that makes work against its token's rate. Raises HttpError."""
        if scope is not Scope.GENERATE:
            return
        if self.draining:
            raise HttpError(503, "closing", "the server is about to end", headers={"retry-after": "5"})
        rate = caller.rate or self._rate
        if rate <= 0:
            return
        now = self._clock()
        most = max(1.0, rate)
        bucket = self._buckets.setdefault(caller.name, _Bucket(most, now))
        bucket.left = min(most, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.left < 1:
            seconds = math.ceil((1 - bucket.left) / rate)
            raise HttpError(
                429,
                "rate",
                f"this token may ask {rate:g} times a second",
                headers={"retry-after": str(seconds)},
            )
        bucket.left -= 1

    def take_stream(self) -> Callable[[], object]:
        """Take one of the streams that may be open at once; return what gives it back. Twice is fine.

        Raises HttpError if there are too many.
        """
        if len(self._streams) >= self.max_streams:
            raise HttpError(
                429, "streams", f"{self.max_streams} streams are open already", headers={"retry-after": "5"}
            )
        number = next(self._numbers)
        self._streams.add(number)
        return lambda: self._streams.discard(number)

    async def read(self, asked: Asked) -> bytes:
        """Return the body. Raises HttpError if it is too large, or does not come in time."""
        try:
            return await asyncio.wait_for(asked.read(self.max_body), BODY_SECONDS)
        except asyncio.TimeoutError:
            raise HttpError(
                408, "body_slow", f"the body did not come within {BODY_SECONDS:g} seconds"
            ) from None
