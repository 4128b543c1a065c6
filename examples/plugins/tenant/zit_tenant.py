"""Keeps users apart: each has a namespace, and a field in every key.

A program that serves several users asks with `for_user(request, user)`. A request that names no user, or
whose namespace is not the user's, neither reads nor writes the cache.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from zit_ext import Request, hookimpl

fields_version = 1

USER = "tenant.user"
"""The extra of a request that holds the digest of its user's name."""


def for_user(request: Request, user: str) -> Request:
    """Return the request as this user asks it. The name itself is stored nowhere."""
    if not user:
        raise ValueError("name the user")
    digest = hashlib.sha256(user.encode()).hexdigest()
    return replace(request, namespace=namespace_of(digest), extra={**request.extra, USER: digest})


def namespace_of(digest: str) -> str:
    return f"user-{digest[:16]}"


@hookimpl(tryfirst=True)
def zit_bypass_reason(request: Request) -> str | None:
    digest = request.extra.get(USER)
    if not isinstance(digest, str):
        return "the request names no user"
    if request.namespace != namespace_of(digest):
        return "the namespace is not the user's"
    return None


@hookimpl
def zit_fingerprint_fields(request: Request) -> dict[str, str]:
    digest = request.extra.get(USER)
    return {"user": digest} if isinstance(digest, str) else {}
