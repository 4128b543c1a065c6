"""The gate that the settings describe."""

from __future__ import annotations

from ..errors import SettingError
from ..settings import Settings
from .auth import Gate, read_tokens


def gate_of(settings: Settings, *, hosts: bool = True) -> Gate:
    """Return the gate of these settings; `hosts=False` leaves names to the host. Raises SettingError."""
    path = settings.http_tokens
    tokens = [] if path is None else read_tokens(path, settings.namespace)
    if path is not None and not tokens:
        # An empty file must not open the door that it was to close.
        raise SettingError("http_tokens", str(path), "it holds no token; make one with `zit-ext token`")
    return Gate(
        tokens,
        namespace=settings.namespace,
        hosts=settings.http_hosts if hosts else None,
        origins=settings.http_origins,
    )
