"""What comes in and what goes out, for any framework. Knows neither aiohttp nor FastAPI."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

JSON = "application/json"
EVENTS = "text/event-stream"


_NOTHING: Mapping[str, str] = MappingProxyType({})


def _never() -> bool:
    return False


# Tuples, here and below: each request makes some, and a tuple is made in a third of the time.
class Asked(NamedTuple):
    """One HTTP request. Headers are found by their names in lower case."""

    method: str
    path: str
    """Decoded, with its leading slash."""
    read: Callable[[int], Awaitable[bytes]]
    """Return the body, or raise TooLargeError if it has more bytes than this."""
    query: Mapping[str, str] = _NOTHING
    headers: Mapping[str, str] = _NOTHING
    gone: Callable[[], bool] = _never
    """Tell whether the client has left. Asked now and then while something renders."""
    secure: bool = False
    """It came over TLS."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file that was verified, to be sent by the kernel if the framework can."""

    path: Path
    start: int
    length: int


class Stream(Protocol):
    """Pieces of a body as they come. `aclose` ends it early, and what it was to tell of; twice is fine."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


Body = bytes | FilePart | Stream


class Answer(NamedTuple):
    """One HTTP response. A stream is sent piece by piece, and closed if the client leaves."""

    status: int = 200
    headers: Mapping[str, str] = _NOTHING
    body: Body = b""

    @property
    def size(self) -> int | None:
        """Bytes of the body; None for a stream."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return self.body.length if isinstance(self.body, FilePart) else None


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer whose body is this value as JSON. It is never kept by a browser or proxy."""
    # Half a surrogate pair, in a name that a client sent, becomes the JSON escape that it was.
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    return Answer(
        status=status,
        headers={"content-type": JSON, "cache-control": "no-store", **(headers or {})},
        body=body,
    )


def event(name: str, value: Any) -> bytes:
    """Return one server-sent event.

    >>> event("step", {"done": 1})
    b'event: step\\ndata: {"done": 1}\\n\\n'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode("utf-8", "backslashreplace")
