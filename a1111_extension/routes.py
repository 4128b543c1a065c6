"""`/zit/*` on the webui's own server: the routes of the HTTP API, behind the webui's own locks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from zit_ext.http.asgi_app import AsgiApp
from zit_ext.http.messages import Answer, Asked

from . import host, host_page


def register() -> None:
    """Ask the webui to tell us when its server runs. Once for each "Reload UI": it has another one then."""
    host_page.script_callbacks.on_app_started(_mount)


def _mount(demo: Any, app: Any) -> None:
    host_page.add_routes(app, AsgiApp(Door(app).answer))


class Door:
    """The service, made when somebody asks for the first time: a start of the webui waits for nothing."""

    def __init__(self, app: Any) -> None:
        self._guard = host_page.guard(app)
        self._service: Any = None
        self._birth = threading.Lock()

    async def answer(self, asked: Asked) -> Answer:
        service = self._service or await asyncio.to_thread(self._open)
        answered: Answer = await service.answer(asked)
        return answered

    def _open(self) -> Any:
        from zit_ext.http.everything import zit_routes
        from zit_ext.http.service import Service

        from . import rendering
        from .gate import WebuiGate

        with self._birth:
            if self._service is None:
                engine = host.engine()
                settings = engine.settings
                alone = self._guard.is_open and host_page.is_for_this_machine()
                gate = WebuiGate(
                    self._guard,
                    namespace=settings.namespace,
                    # A site whose name leads to this machine (DNS rebinding) has no password; where none is
                    # needed, and nobody else is to come, the name must be this machine's.
                    hosts=settings.http_hosts if alone else None,
                    origins=settings.http_origins,
                )
                self._service = Service(
                    engine,
                    routes=zit_routes(),
                    gate=gate,
                    render=rendering.answer,
                    preload=rendering.preload,
                )
            return self._service
