"""What `/zit/*` uses of the webui; `host.py` has the rest. No other file of ours imports its modules.

Verified with AUTOMATIC1111 1.10.1 (docs/hosts.md). Facts without another source are read in its source.
"""

from __future__ import annotations

from typing import Any

from modules import call_queue, script_callbacks, shared
from starlette.routing import Route

from .gate import Guard

__all__ = ["script_callbacks"]


def add_routes(app: Any, answer: Any) -> None:
    """Have everything under `/zit` answered by an ASGI application, before other routes are asked."""
    for path in ("/zit/{rest:path}", "/zit"):
        app.router.routes.insert(0, Route(path, answer, name="zit_ext", include_in_schema=False))


def guard(app: Any) -> Guard:
    """Return how this webui is guarded: `--api-auth` and `--gradio-auth` leave an extension's routes open."""
    told = getattr(shared.cmd_opts, "api_auth", None) or ""
    pairs = [each.split(":", 1) for each in told.split(",") if each]
    tokens = getattr(app, "tokens", {})
    return Guard(
        passwords=tuple((name, password) for name, password in pairs),
        wants_login=getattr(app, "auth", None) is not None,
        user_of_session=lambda session: tokens.get(session),
    )


def is_for_this_machine() -> bool:
    """Tell whether the webui listens on loopback only."""
    names = ("listen", "share", "server_name", "ngrok")
    return not any(getattr(shared.cmd_opts, name, None) for name in names)


def queue() -> Any:
    """Return the lock under which the webui runs one job after the other; a context."""
    return call_queue.queue_lock
