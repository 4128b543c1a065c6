"""Who may ask `/zit/*`: whoever the webui itself would let in. Pure: what the webui knows is handed in.

The webui asks for its passwords on its own routes only; on those of an extension it asks nobody.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from zit_ext.http.auth import Caller, Gate, Scope, digest_of
from zit_ext.http.errors import HttpError
from zit_ext.http.messages import Asked


@dataclass(frozen=True)
class Guard:
    """How the webui is guarded."""

    passwords: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Names and passwords of `--api-auth`."""
    wants_password: bool = False
    """`--api-auth` says something, readable or not: then nobody comes in without."""
    wants_login: bool = False
    """Somebody who opens the page must log in: `--gradio-auth`."""
    user_of_session: Callable[[str], str | None] = lambda session: None
    """Return who logged in and was given this session; None for nobody."""

    @property
    def is_open(self) -> bool:
        return not (self.passwords or self.wants_password or self.wants_login)


def passwords_in(told: str) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return the names and passwords of `--api-auth`, and how many of its pieces are none.

    >>> passwords_in("ann:secret,bob:other"), passwords_in("secret"), passwords_in("ann:secret,")
    (((('ann', 'secret'), ('bob', 'other')), 0), ((), 1), ((('ann', 'secret'),), 1))
    """
    pieces = [each.partition(":") for each in told.split(",")] if told else []
    pairs = tuple((name, password) for name, colon, password in pieces if colon)
    return pairs, len(pieces) - len(pairs)


class WebuiGate(Gate):
    """Lets in whom the webui lets in. Where it asks nobody, neither do we; pages of other sites stay out."""

    def __init__(
        self, guard: Guard, *, namespace: str, hosts: Iterable[str] | None, origins: Iterable[str] = ()
    ) -> None:
        super().__init__(namespace=namespace, hosts=hosts, origins=origins)
        self._guard = guard
        self._namespace = namespace

    def who(self, asked: Asked) -> Caller:
        """Return who asks. Raises HttpError for a stranger, if the webui is guarded."""
        name = "anybody" if self._guard.is_open else self._user(asked.headers)
        if name is None:
            # The browser asks for what --api-auth wants; a login is the webui's own page.
            challenge = {"www-authenticate": 'Basic realm="webui"'} if self._guard.passwords else {}
            raise HttpError(
                401,
                "login_needed",
                "log in to the webui, or send the name and password of --api-auth",
                headers=challenge,
            )
        return Caller(name=name, scopes=frozenset(Scope), namespace=self._namespace, every_namespace=True)

    def admit(self, asked: Asked, scope: Scope | None) -> Caller:
        """Return who asks; what needs no token elsewhere needs a login here."""
        return super().admit(asked, scope or Scope.READ)

    def _user(self, headers: Mapping[str, str]) -> str | None:
        return self._of_password(headers.get("authorization", "")) or self._of_session(
            headers.get("cookie", "")
        )

    def _of_password(self, authorization: str) -> str | None:
        kind, _, rest = authorization.partition(" ")
        if kind.lower() != "basic" or not self._guard.passwords:
            return None
        try:
            given = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        found = None
        for name, password in self._guard.passwords:  # all of them, each in constant time
            if hmac.compare_digest(digest_of(f"{name}:{password}"), digest_of(given)):
                found = name
        return found

    def _of_session(self, cookie: str) -> str | None:
        if not self._guard.wants_login:
            return None
        for piece in cookie.split(";"):
            name, _, value = piece.strip().partition("=")
            # Gradio 3 calls it access-token, Gradio 4 adds an id; both have one for pages without TLS.
            if name.startswith("access-token") and value and (user := self._guard.user_of_session(value)):
                return user
        return None
