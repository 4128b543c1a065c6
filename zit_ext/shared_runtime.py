"""The one runtime of a program that others share: a web UI, with its nodes, routes and scripts."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping

from .runtime import Runtime
from .settings import Settings

_shared: Runtime | None = None
_birth = threading.Lock()


def running() -> Runtime | None:
    """Return this process's runtime if it has been started and is open."""
    with _birth:
        return _shared if _shared is not None and _shared.is_open else None


def shared(
    host_plugins: Mapping[str, object] | None = None,
    settings: Settings | None = None,
    label: str = "python",
) -> Runtime:
    """Return this process's runtime, started at the first call. Each host brings its own hooks.

    Settings and label count at the first call only. A web UI ends without a word to its extensions, so
    what was promised is written as Python ends (a program that is killed has no such moment).
    """
    global _shared
    with _birth:
        born = _shared is None or not _shared.is_open
        if _shared is None or born:
            _shared = Runtime(settings or Settings.load(os.environ), label=label)
            atexit.register(_shared.finish)
        for name, plugin in (host_plugins or {}).items():
            if name not in _shared.hooks.plugins.reports:
                _shared.hooks.plugins.register(plugin, name)
        if born:
            _shared.begin_preloading()
        return _shared
