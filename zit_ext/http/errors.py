"""What went wrong, as a status and in the words of each dialect. Never a traceback, never a path of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..errors import (
    EngineClosedError,
    GenerationStoppedError,
    ModelError,
    ModelMissingError,
    NotCachedError,
    OutOfMemoryError,
    QueueFullError,
    RequestError,
    ServerError,
    ZitError,
)
from .messages import Answer, json_answer


class Dialect(str, Enum):
    """Whose words an answer uses."""

    ZIT = "zit"
    OPENAI = "openai"
    A1111 = "a1111"


class HttpError(Exception):
    """An answer that is not a success. `code` is for programs, `message` for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers or {})


class TooLargeError(HttpError):
    """The body has more bytes than are read."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, "body_too_large", f"a body may have {limit:,} bytes")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    code: str


_KINDS: tuple[tuple[type[ZitError], _Kind], ...] = (
    (NotCachedError, _Kind(504, "not_cached")),
    (RequestError, _Kind(400, "bad_request")),
    (QueueFullError, _Kind(429, "queue_full")),
    (ModelMissingError, _Kind(404, "model_missing")),
    (OutOfMemoryError, _Kind(503, "out_of_memory")),
    (ModelError, _Kind(503, "model_unusable")),
    (GenerationStoppedError, _Kind(409, "stopped")),
    (EngineClosedError, _Kind(503, "closed")),
    (ServerError, _Kind(503, "no_model_server")),
    (ZitError, _Kind(500, "failed")),
)
_RETRY_SECONDS = 5


def as_http(error: BaseException) -> HttpError:
    """Return what an error means to a client. What nobody foresaw says nothing about itself.

    >>> as_http(RequestError("width", 500, "give a multiple of 16")).status
    400
    """
    if isinstance(error, HttpError):
        return error
    for kind, meaning in _KINDS:
        if isinstance(error, kind):
            return HttpError(
                meaning.status,
                meaning.code,
                _words(error),
                field=getattr(error, "field", None),
                headers=_headers(error, meaning.status),
            )
    return HttpError(500, "internal_error", "the server failed; its log says why")


def _words(error: BaseException) -> str:
    # Messages of weights name folders of this machine: a client is told what to do, and not where.
    if isinstance(error, ModelMissingError):
        return "there are no weights of that name here; /v1/models lists the ones that are"
    if isinstance(error, ModelError) and not isinstance(error, OutOfMemoryError):
        return "the weights cannot be used; the server's log says why"
    if isinstance(error, ZitError) and type(error) is not ZitError and _is_told(error):
        return str(error)
    return "the server failed; its log says why"


def _is_told(error: ZitError) -> bool:
    told = (RequestError, QueueFullError, OutOfMemoryError, GenerationStoppedError, EngineClosedError)
    return isinstance(error, told)


def _headers(error: BaseException, status: int) -> dict[str, str]:
    if isinstance(error, QueueFullError):
        return {"retry-after": str(math.ceil(error.retry_after))}
    if isinstance(error, NotCachedError):
        return {"cache-status": "zit_ext; fwd=miss; detail=only-if-cached"}
    return {"retry-after": str(_RETRY_SECONDS)} if status == 503 else {}


_OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def answer_to(error: HttpError, dialect: Dialect) -> Answer:
    """Return the error as a client of this dialect reads it."""
    body: dict[str, Any]
    if dialect is Dialect.OPENAI:
        kind = _OPENAI_TYPES.get(
            error.status, "server_error" if error.status >= 500 else "invalid_request_error"
        )
        body = {"error": {"message": error.message, "type": kind, "param": error.field, "code": error.code}}
    elif dialect is Dialect.A1111:
        body = {"error": error.code, "detail": error.message, "body": "", "errors": error.message}
    else:
        body = {"error": {"code": error.code, "message": error.message, "field": error.field}}
    return json_answer(body, status=error.status, headers=error.headers)
