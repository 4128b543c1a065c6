"""What a model server and its clients say to each other. Knows no sockets, no weights and no files.

A message is a frame: sixteen bytes (a mark, the lengths of header and body), a JSON header, raw bytes. One
connection serves one question after another; whoever leaves it takes his question back. Frames, handshake
and `RETIRE` stay as they are in all versions, so that a newer client can send an older server home.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import ZitError

PROTOCOL = 3
"""Grows when older servers would not understand a message any more."""

MARK = b"ZIT1"
PREFIX = struct.Struct(">4sIQ")

MAX_GREETING = 4096
"""Bytes of header from somebody who has not proved yet that he knows the token. A body he may not send."""
MAX_HEADER = 64_000_000
MAX_BODY = 2_000_000_000

# What a client asks
RENDER = "render"
PRELOAD = "preload"
UNLOAD = "unload"
UNLOAD_ALL = "unload_all"
PARK = "park"
GIVE_BACK = "give_back"
HOLDINGS = "holdings"
PUBLISH = "publish"
STOP = "stop"
RETIRE = "retire"
CANCEL = "cancel"

# What a server answers
STEP = "step"
PREVIEW = "preview"
ALIVE = "alive"
DONE = "done"
FAILED = "failed"

ALIVE_SECONDS = 5.0
"""How often a server that works says that it is there."""
SILENCE_SECONDS = 90.0
"""After so long without a word it counts as lost."""
SEND_SECONDS = 60.0
"""How long the other side may take to accept a message."""
HANDSHAKE_SECONDS = 10.0
REST_SECONDS = 600.0
"""How long a connection stays open for the next question."""


class ProtocolError(ZitError):
    """The other side said what this one does not understand."""


class ServerLostError(ZitError):
    """The connection to the model server ended before its answer came."""


def pack(header: Mapping[str, Any], body_length: int) -> bytes:
    """Return the beginning of a frame: everything but the body.

    >>> unpack(pack({"op": "alive"}, 0)[:PREFIX.size])
    (14, 0)
    """
    # Not as ASCII: two halves of a surrogate pair, in a prompt that was cut badly, would become one letter.
    spelled = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return PREFIX.pack(MARK, len(spelled), body_length) + spelled


def unpack(prefix: bytes, *, greeting: bool = False) -> tuple[int, int]:
    """Return the lengths of header and body. Raises ProtocolError for what is no frame of ours.

    >>> unpack(pack({"op": "alive"}, 3)[:PREFIX.size])
    (14, 3)
    """
    mark, header, body = PREFIX.unpack(prefix)
    if mark != MARK:
        raise ProtocolError("not a message of zit_ext")
    if header > (MAX_GREETING if greeting else MAX_HEADER) or body > (0 if greeting else MAX_BODY):
        raise ProtocolError(f"a message of {header:,} + {body:,} bytes is too long")
    return header, body


def read_header(spelled: bytes) -> dict[str, Any]:
    """Return the header. Raises ProtocolError."""
    try:
        header = json.loads(spelled)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the header of a message cannot be read") from error
    if not isinstance(header, dict):
        raise ProtocolError("the header of a message is no mapping")
    return header


def proof(token: str, who: str, client_nonce: str, server_nonce: str) -> str:
    """Return what only a holder of the token can say; the token itself never travels."""
    said = f"{who} {client_nonce} {server_nonce}".encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


def is_proof(given: object, token: str, who: str, client_nonce: str, server_nonce: str) -> bool:
    """Say whether this is that proof, in a time that tells nothing.

    >>> is_proof("guess", "token", "client", "a", "b")
    False
    """
    expected = proof(token, who, client_nonce, server_nonce)
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())


def newer(one: str, other: str) -> bool:
    """Say whether version `one` is newer than `other`.

    >>> newer("0.10.0", "0.9.1"), newer("0.1.0", "0.1.0")
    (True, False)
    """
    return _numbers(one) > _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    plain = version.partition("+")[0].split(".")
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in plain)
