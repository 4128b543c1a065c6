"""What `/zit/*` uses of the webui; `host.py` has the rest. No other file of ours imports its modules.

Verified with AUTOMATIC1111 1.10.1 (docs/hosts.md). Facts without another source are read in its source.
"""

from __future__ import annotations

import logging
from typing import Any

from modules import call_queue, script_callbacks, shared
from starlette.routing import Route

from .gate import Guard, passwords_in

__all__ = ["script_callbacks"]

log = logging.getLogger("zit_ext")


def add_routes(app: Any, answer: Any) -> None:
    """Have everything under `/zit` answered by an ASGI application, before other routes are asked."""
    for path in ("/zit/{rest:path}", "/zit"):
        app.router.routes.insert(0, Route(path, answer, name="zit_ext", include_in_schema=False))


def guard(app: Any) -> Guard:
    """Return how this webui is guarded: `--api-auth` and `--gradio-auth` leave an extension's routes open.

    Its own API cannot be made with an `--api-auth` that is not NAME:PASSWORD: with `--api` it does not
    start at all, and without it never looks (modules/api/api.py). Ours are locked, and the log says so.
    """
    told = getattr(shared.cmd_opts, "api_auth", None) or ""
    pairs, wrong = passwords_in(told)
    if wrong:
        log.error(
            "zit_ext: --api-auth wants NAME:PASSWORD, and NAME:PASSWORD,NAME:PASSWORD for more; %s of it %s "
            "no colon. /zit/* stays locked for everybody but those whose name and password can be read",
            wrong,
            "has" if wrong == 1 else "have",
        )
    # The page's own login; a webui without a page (--nowebui) asks nobody for it, and so lets nobody in here.
    options = ("gradio_auth", "gradio_auth_path", "auth", "auth_file")  # the last two are SD.Next's
    wants_login = any(getattr(shared.cmd_opts, name, None) for name in options)
    tokens = getattr(app, "tokens", {})
    return Guard(
        passwords=pairs,
        wants_password=bool(told),
        wants_login=wants_login or getattr(app, "auth", None) is not None,
        user_of_session=lambda session: tokens.get(session),
    )


def is_for_this_machine() -> bool:
    """Tell whether the webui listens on loopback only."""
    names = ("listen", "share", "server_name", "ngrok")
    return not any(getattr(shared.cmd_opts, name, None) for name in names)


def queue() -> Any:
    """Return the lock under which the webui runs one job after the other; a context."""
    return call_queue.queue_lock
