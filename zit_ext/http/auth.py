"""Who asks: tokens with scopes and a namespace, and pages of other sites kept out.

Only digests of tokens are kept. All of them are compared, each in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import SettingError
from .errors import HttpError
from .messages import Asked

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COOKIE = "zit_token"
EVERY_NAMESPACE = "*"


class Scope(str, Enum):
    """What a token allows."""

    GENERATE = "generate"  # ask for pictures
    READ = "read"  # look at what is stored, in its namespace
    ADMIN = "admin"  # change what is stored in its namespace; weights, plugins and the process


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever asks, and what they may do."""

    name: str
    scopes: frozenset[Scope]
    namespace: str
    """Whose entries they make and see, unless they may choose."""
    every_namespace: bool = False
    """They may name any namespace."""
    rate: float = 0.0
    """Requests a second; 0 is the setting."""

    def namespace_for(self, wanted: str | None) -> str:
        """Return the namespace of a request that names this one, or none. Raises HttpError."""
        if wanted is None or wanted == self.namespace:
            return self.namespace
        if not self.every_namespace:
            raise HttpError(403, "namespace", "this token has a namespace of its own", field="namespace")
        return wanted

    def seen_namespace(self, wanted: str | None) -> str | None:
        """Return the namespace whose entries a listing shows; None is all of them. Raises HttpError."""
        if wanted is None and self.every_namespace:
            return None
        return self.namespace_for(wanted)


@dataclass(frozen=True, slots=True)
class Token:
    """A caller, and the SHA-256 of the token by which it is known."""

    digest: bytes
    caller: Caller


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Gate:
    """Lets requests in, or says why not. Without tokens everybody who gets here may do everything."""

    def __init__(
        self,
        tokens: Iterable[Token] = (),
        *,
        namespace: str = "default",
        hosts: Iterable[str] | None = (),
        origins: Iterable[str] = (),
    ) -> None:
        """`hosts` are names beside localhost and addresses; None leaves that question to the host.

        `origins` are pages of other sites that may ask, such as "https://example.org".
        """
        self._tokens = tuple(tokens)
        self._hosts = None if hosts is None else {name.lower() for name in hosts}
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._anybody = Caller(
            name="anybody", scopes=frozenset(Scope), namespace=namespace, every_namespace=True
        )

    @property
    def is_open(self) -> bool:
        """No token is needed."""
        return not self._tokens

    def check_place(self, asked: Asked) -> None:
        """Refuse names that are not ours (DNS rebinding) and pages of other sites. Raises HttpError."""
        host = asked.headers.get("host", "")
        if self._hosts is not None and not self._is_ours(host):
            raise HttpError(403, "host", "this name is not one of this server's: see the setting http_hosts")
        origin = asked.headers.get("origin")
        if origin is not None:
            same = f"{'https' if asked.secure else 'http'}://{host}".lower()
            if origin.lower() not in self.origins and not self._is_same(origin.lower(), same):
                raise HttpError(403, "origin", "pages of other sites may not ask: see http_origins")
        elif (
            asked.headers.get("sec-fetch-site") in ("cross-site", "same-site")
            and asked.headers.get("sec-fetch-mode") != "navigate"
        ):
            raise HttpError(403, "origin", "pages of other sites may not ask: see http_origins")

    def who(self, asked: Asked) -> Caller | None:
        """Return who asks, or None if no token came and one is needed. Raises HttpError for a wrong one."""
        if not self._tokens:
            return self._anybody
        given = _token_of(asked.headers)
        if given is None:
            return None
        found = self._caller_of(given)
        if found is None:
            raise HttpError(401, "wrong_token", "this token is not known", headers=_CHALLENGE)
        return found

    def knows(self, token: str) -> bool:
        """Tell whether this is a token that may be kept in a cookie."""
        return re.fullmatch(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+", token) is not None and (
            self._caller_of(token) is not None
        )

    def _caller_of(self, given: str) -> Caller | None:
        digest = digest_of(given)
        found: Caller | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token.caller
        return found

    def admit(self, asked: Asked, scope: Scope | None) -> Caller:
        """Return who asks, if they may. Raises HttpError."""
        if scope is None:
            try:
                caller = self.who(asked)
            except HttpError:
                caller = None
            return caller or NOBODY
        caller = self.who(asked)
        if caller is None:
            raise HttpError(
                401, "token_needed", "send a token: Authorization: Bearer ...", headers=_CHALLENGE
            )
        if scope not in caller.scopes:
            raise LacksScopeError(caller, scope)
        return caller

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        if name is None:
            return False
        assert self._hosts is not None
        return name == "localhost" or name in self._hosts or _is_address(name)

    def _is_same(self, origin: str, same: str) -> bool:
        # A proxy in front may speak TLS while we do not: the names decide, the scheme does not.
        return origin == same or (origin.partition("://")[2] == same.partition("://")[2] != "")


NOBODY = Caller(name="nobody", scopes=frozenset(), namespace="")


class LacksScopeError(HttpError):
    """A token that is known, and may not do this. `caller` is whose it is."""

    def __init__(self, caller: Caller, scope: Scope) -> None:
        super().__init__(403, "scope", f"this token lacks the scope {scope.value}")
        self.caller = caller


_CHALLENGE = {"www-authenticate": 'Bearer realm="zit_ext"'}


# Asked for each request, about a few names.
@lru_cache(maxsize=256)
def _name_of(host: str) -> str | None:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return None
    return None if name is None or "@" in host or "/" in host else name.rstrip(".")


@lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token: as Bearer, as the password of Basic, in X-API-Key, or in our cookie."""
    kind, _, rest = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and rest.strip():
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return ""
    if headers.get("x-api-key"):
        return headers["x-api-key"]
    for piece in headers.get("cookie", "").split(";"):
        name, _, value = piece.strip().partition("=")
        if name == COOKIE and value:
            return value
    return None


def read_tokens(path: Path, namespace: str) -> list[Token]:
    """Return the tokens of a TOML file; `namespace` is that of a token that names none.

    [alice]
    sha256 = "…"                       # or token = "…", readable
    scopes = ["generate", "read"]
    namespace = "alice"                # "*": may name any
    rate = 5                           # requests a second

    Raises SettingError.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise SettingError(
            "http_tokens", str(path), f"name a file of tokens, as `zit-ext token` makes it ({error})"
        ) from None
    return [_token(name, value, namespace) for name, value in table.items()]


def _token(name: str, value: Any, namespace: str) -> Token:
    def wrong(remedy: str) -> SettingError:
        return SettingError("http_tokens", name, remedy)

    known = {"token", "sha256", "scopes", "namespace", "rate"}
    if not isinstance(value, dict) or not value.keys() <= known:
        raise wrong(f"each token is a table of {', '.join(sorted(known))}")
    if ("token" in value) == ("sha256" in value):
        raise wrong("give token or sha256")
    if "token" in value:
        if not isinstance(value["token"], str) or len(value["token"]) < 16:
            raise wrong("give a token of 16 characters or more")
        digest = digest_of(value["token"])
    else:
        try:
            digest = bytes.fromhex(value["sha256"])
        except (TypeError, ValueError):
            digest = b""
        if len(digest) != 32:
            raise wrong("sha256 has 64 hexadecimal digits")
    try:
        scopes = frozenset(Scope(each) for each in value.get("scopes", ["generate", "read"]))
    except (TypeError, ValueError):
        raise wrong(f"scopes are {', '.join(scope.value for scope in Scope)}") from None
    own = value.get("namespace", namespace)
    rate = value.get("rate", 0)
    if not isinstance(own, str) or not own:
        raise wrong("a namespace is a text")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1e9:
        raise wrong("rate is a number of requests a second, from 0")
    every = own == EVERY_NAMESPACE
    # "default" stands for the settings' namespace everywhere; here too, or a token could reach it by name.
    own = namespace if every or own == "default" else own
    return Token(
        digest, Caller(name=name, scopes=scopes, namespace=own, every_namespace=every, rate=float(rate))
    )
