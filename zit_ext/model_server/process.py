"""The model server as a process: its lock, its log, its plugins, and the weights it renders with."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from typing import Any

from .. import __version__
from ..default_plugins.zimage import ZImage
from ..errors import PluginError, ZitError
from ..history.database import FOLDER
from ..history.recorder import Recorder
from ..history.tally import Look
from ..models.environment import EnvironmentBook
from ..models.ledger import Ledger
from ..models.naming import model_named
from ..models.server_environments import facts_of_this_process
from ..observing import Loads, sources_of
from ..pipeline import Pipeline, Rendered
from ..plugins import Hooks
from ..questions import Questions, environment_digest, environment_name, is_unread
from ..records import FieldValue, ModelRef, Request
from ..renderers.several import renderer_of
from ..runtime import limits_of, live_flags, plugins_for
from ..settings import Settings
from ..structured_logs import JsonLines
from .agreement import doubt_about
from .home import ServerHome, State
from .server import ModelServer
from .starting import ANOTHER_SERVES

log = logging.getLogger(__name__)

_LOCK_SECONDS = 60.0


def main(arguments: Sequence[str]) -> int:
    """Serve until somebody says stop or nobody asks any more; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zit_ext.model_server", description=__doc__)
    parser.add_argument("--settings", metavar="JSON", help="settings, over the user's own")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    faulthandler.enable()
    settings = Settings.load()
    if options.settings:
        settings = settings.with_values(json.loads(options.settings), "the program that started the server")
    home = ServerHome.of(settings)
    lock = _await_lock(home)
    if lock is None:
        return ANOTHER_SERVES
    with home.held(lock):
        home.remove_state()  # of a server that was killed
        handler = RotatingFileHandler(home.log, maxBytes=1_000_000, backupCount=3, encoding="utf-8")
        text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        handler.setFormatter(JsonLines() if settings.log_format == "json" else text)
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(logging.DEBUG if settings.debug else logging.INFO)
        try:
            asyncio.run(_Process(settings, home).run())
        except Exception:
            log.exception("the server failed")
            raise
        finally:
            root.removeHandler(handler)
            handler.close()
    return 0


def _await_lock(home: ServerHome) -> int | None:
    """Return the lock, once the server before has let go of it; None if one is there to stay."""
    began = time.monotonic()
    while (lock := home.try_lock("lock")) is None:
        waited = time.monotonic() - began
        if waited > _LOCK_SECONDS or (waited > 2.0 and home.state() is not None):
            return None
        time.sleep(0.05)
    return lock


class _Process:
    """Everything that one server is made of."""

    def __init__(self, settings: Settings, home: ServerHome) -> None:
        self._settings = settings
        self._home = home
        # Made before torch is imported: the flags of a fresh start are then known as such.
        self._book = EnvironmentBook(home.environments, label="server", live_flags=live_flags)
        plugins = plugins_for(settings, "server")
        plugins.register(ZImage(self._open_zimage), "zimage", "built in")
        self._hooks = Hooks(plugins, limits=limits_of(settings))
        self._questions = Questions(settings, self._hooks, self._book)
        self._rendered_in: set[str] = set()
        self._renderer = renderer_of(
            settings,
            open_pipeline=self._open_pipeline,
            make_room=self._hooks.make_room,
            ledger=lambda: Ledger(settings.data_dir / "ledger", "server"),
        )

        # Its clients count their requests; how long weights are read only this process knows.
        self._history = Recorder(settings.cache_dir / FOLDER, look=self._look)
        self._loads = Loads(self._history, settings.namespace)

    async def run(self) -> None:
        token = secrets.token_hex(32)
        server = ModelServer(
            self._renderer,
            token=token,
            idle_timeout=self._settings.server_idle_timeout,
            prepare=self._prepare,
            finish=self._finish,
            publish=self._remember,
        )
        _end_politely(server)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            if sys.platform == "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            self._home.write_state(self._state(listener.getsockname()[1], token))
            log.info("serving %s on port %d", self._settings.device, listener.getsockname()[1])
            preloading = asyncio.ensure_future(self._preload())
            try:
                await server.serve(listener)
            finally:
                # From here on nobody finds this server; the lock goes last, when the memory is free.
                self._home.remove_state()
                preloading.cancel()
        self._look()
        await self._renderer.close()
        await server.close()
        await asyncio.to_thread(self._history.close)
        log.info("the server has ended")

    def _look(self) -> Look:
        holdings = self._renderer.holdings()
        self._loads.saw(holdings)
        return Look(self._history.now(), {}, sources_of(holdings))

    def _state(self, port: int, token: str) -> State:
        return State(
            port=port,
            token=token,
            pid=os.getpid(),
            version=__version__,
            device=self._settings.device,
            python=sys.executable,
            started_at=time.time(),
            facts=facts_of_this_process(self._book.installation()),
        )

    def _prepare(self, request: Request, fields: Mapping[str, FieldValue]) -> tuple[Request, str | None]:
        """Return the request in the context of the plugins here, and why its picture may not be kept."""
        return self._questions.in_context(request), doubt_about(self._hooks, request, fields)

    def _finish(
        self, request: Request, fields: Mapping[str, FieldValue], rendered: Rendered, doubt: str | None
    ) -> Rendered:
        self._questions.rendered(request)
        doubt = doubt or doubt_about(self._hooks, request, fields)
        if doubt is not None:
            words = f"{doubt}: the picture is not kept; `zit-ext server stop` lets the next one start anew"
            return replace(rendered, faithful=False, warnings=(*rendered.warnings, words))
        self._rendered_in.add(environment_digest(rendered.environment))
        if not is_unread(request):
            self._book.publish(environment_name(request), rendered.environment)
        return rendered

    def _remember(self, name: str, environment: Mapping[str, FieldValue]) -> None:
        """Remember the environment of a model that was hashed after its render."""
        # A client may have had its picture from the server before this one, whose packages were others.
        if environment_digest(environment) in self._rendered_in:
            self._book.publish(name, environment)

    async def _preload(self) -> None:
        for source in self._settings.preload:
            try:
                await self._renderer.preload(await asyncio.to_thread(model_named, source, self._settings))
            except ZitError as error:
                log.warning("%r was not preloaded: %s", source, error)

    def _open_pipeline(self, model: ModelRef) -> Pipeline:
        pipeline = self._hooks.open_pipeline(model)
        if pipeline is None:
            raise PluginError("zimage", f"no plugin of the model server opens {model.source!r}")
        return pipeline

    def _open_zimage(self, model: ModelRef) -> Pipeline:
        from ..models import zimage  # brings torch: only when weights are really wanted

        return zimage.open_pipeline(model, self._settings)


def _end_politely(server: ModelServer) -> None:
    """End when the system, or a person, asks for it."""
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        number: Any = getattr(signal, name, None)
        if number is None:
            continue
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-Break ends it at once
            loop.add_signal_handler(number, server.end)
