"""One engine per process, on a loop and a thread of its own, and the ways in from outside.

ComfyUI runs each prompt on a fresh event loop; A1111 calls from whatever thread Gradio picked. Both
may be gone by the time a picture is ready. So the engine lives on its own loop, and callers get a
future. This is also where the rooms are wired together.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .default_plugins.counting import Counting
from .default_plugins.zimage import ZImage
from .engine import Engine
from .errors import EngineClosedError, HookHangsError, PluginError, ZitError
from .metrics import Metrics
from .models.environment import EnvironmentBook
from .models.resolver import Resolver
from .observing import Observer
from .outstanding import Outstanding
from .pipeline import HoldsWeights, Pipeline, Renderer, Watcher
from .plugin_watch import WATCH, Call
from .plugins import Hooks, Limits, Plugins, Troubles, find_plugins, hook_running
from .questions import Environments, Files
from .records import FieldValue, ModelRef, Request, Result
from .renderers.choosing import wants_server
from .renderers.either import EitherRenderer
from .renderers.late import LateRenderer
from .results.store import ResultStore
from .settings import Settings

if TYPE_CHECKING:
    from .models.holdings import Holdings
    from .renderers.model_server import ServerRenderer
    from .renderers.several import HereRenderer

T = TypeVar("T")
log = logging.getLogger(__name__)


def live_flags() -> Mapping[str, FieldValue] | None:
    """Return what torch is set to just now, if somebody imported it."""
    if "torch" not in sys.modules:
        return None
    from .models import torch_environment

    return torch_environment.live_flags()


class Runtime:
    """An engine with its own loop and thread. Any thread and any loop may ask it."""

    def __init__(
        self,
        settings: Settings,
        *,
        plugins: Plugins | None = None,
        renderer: Renderer | None = None,
        files: Files | None = None,
        label: str = "python",
    ) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.namespace)
        if plugins is None:
            plugins = plugins_for(settings, label)
        self._outstanding = Outstanding()
        self.hooks = Hooks(
            plugins, limits=limits_of(settings), report=self.metrics.event, hung=self._hook_hangs
        )
        plugins.register(Counting(self.metrics.answered), "metrics", "built in")
        plugins.register(ZImage(self._open_zimage), "zimage", "built in")
        self.store = ResultStore(settings, score=self.hooks.eviction_score, count=self.metrics.event)
        book = EnvironmentBook(settings.cache_dir / "environments", label=label, live_flags=live_flags)
        self._renderer = renderer or EitherRenderer(
            here=lambda: self._renderer_here(label),
            there=self._renderer_there,
            in_server=lambda: wants_server(settings, label),
            book=book,
        )
        either = self._renderer if isinstance(self._renderer, EitherRenderer) else None
        self.environments: Environments = book if either is None else either.environments
        self.files: Files = files or Resolver(settings)
        self.engine = Engine(
            settings,
            hooks=self.hooks,
            files=self.files,
            environments=self.environments,
            store=self.store,
            renderer=self._renderer,
            metrics=self.metrics,
        )
        self._closed, self._process = False, os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="zit-engine", daemon=True)
        self._thread.start()
        self.observer = Observer(
            settings,
            self.metrics,
            self.store,
            self._holdings_soon,
            own_holdings=self._own_holdings,
            by_server=lambda: either is not None and either.is_there(),
        )
        self._start(self.engine.open).result()

    @property
    def renderer(self) -> Renderer:
        """Who renders the misses; made now if no miss has asked for it yet."""
        late = self._renderer
        return late.itself() if isinstance(late, (LateRenderer, EitherRenderer)) else late

    @property
    def _renderer_made(self) -> Renderer | None:
        """Who renders, if a miss has asked for it by now. One that was not made holds nothing."""
        late = self._renderer
        return late.made if isinstance(late, (LateRenderer, EitherRenderer)) else late

    @property
    def is_open(self) -> bool:
        """It answers; False once it was closed, and in a fork, where its threads are not."""
        return not self._closed and os.getpid() == self._process

    def submit(self, request: Request, watcher: Watcher | None = None) -> Future[Result]:
        """Ask, and get a future that any thread may wait for or cancel."""
        return self._start(lambda: self.engine.generate(request, watcher))

    def submit_many(
        self, requests: Sequence[Request], watcher: Watcher | None = None
    ) -> Future[list[Result]]:
        """Ask for a batch; a future of all results, in order."""
        return self._start(lambda: self.engine.generate_many(requests, watcher))

    async def generate(self, request: Request, watcher: Watcher | None = None) -> Result:
        """Ask from a coroutine, on whichever loop it runs."""
        return await asyncio.wrap_future(self.submit(request, watcher))

    async def find(self, request: Request, watcher: Watcher | None = None) -> Result | None:
        """Return the answer if it is kept, None if it would be rendered; from any loop."""
        return await asyncio.wrap_future(self._start(lambda: self.engine.find(request, watcher)))

    async def generate_many(
        self, requests: Sequence[Request], watcher: Watcher | None = None
    ) -> list[Result]:
        """Ask for a batch from a coroutine, on whichever loop it runs."""
        return await asyncio.wrap_future(self.submit_many(requests, watcher))

    def generate_blocking(
        self,
        request: Request,
        watcher: Watcher | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Ask from a thread, and look up now and then whether the host wants to stop.

        Raises CancelledError (of concurrent.futures) if `interrupted` became true.
        """
        return _wait(self.submit(request, watcher), interrupted)

    def generate_many_blocking(
        self,
        requests: Sequence[Request],
        watcher: Watcher | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> list[Result]:
        """Ask for a batch from a thread."""
        return _wait(self.submit_many(requests, watcher), interrupted)

    def preload_blocking(self, model: ModelRef, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Have the model's weights ready. From a thread. Raises RequestError and ModelError."""
        _wait(self._start(lambda: self._preload(model)), interrupted)

    def begin_preloading(self) -> Future[None]:
        """Begin to load the models of the setting `preload`: for programs that stay. A failure is logged."""
        return self._start(self._preload_all)

    def unload_blocking(self, model: ModelRef | None = None) -> int:
        """Let go of a model's weights, or of all; return how many models that were. From a thread."""
        return self._start(lambda: self._unload(model)).result()

    def park_blocking(self) -> None:
        """Move all weights off the device into RAM; the next render brings them back. From a thread."""
        self._start(self._park).result()

    async def preload(self, model: ModelRef) -> None:
        """Have the model's weights ready. From any loop. Raises RequestError and ModelError."""
        await asyncio.wrap_future(self._start(lambda: self._preload(model)))

    async def unload(self, model: ModelRef | None = None) -> int:
        """Let go of a model's weights, or of all; return how many models that were. From any loop."""
        unloaded: Future[int] = self._start(lambda: self._unload(model))
        return await asyncio.wrap_future(unloaded)

    async def holdings(self) -> Holdings | None:
        """Return what weights are held where; None where nobody knows, or no model server runs."""
        held: Future[Holdings | None] = self._start(self._holdings)
        return await asyncio.wrap_future(held)

    def close(self, patience: float = 30.0) -> None:
        """Finish what was promised, let go of weights and files, end the threads. Twice is fine."""
        if not self.is_open:
            return
        self._closed = True
        self.observer.close_eyes()
        try:
            self._ask(lambda: self.engine.close(patience)).result()
        except HookHangsError as error:
            # The thread is a daemon: what hangs in it cannot keep the program from ending.
            log.error("the engine was left as it is: %s", error)
            return
        finally:
            self.observer.close()
        self._outstanding.fail(EngineClosedError("the engine was closed"))
        asyncio.run_coroutine_threadsafe(_end_tasks(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def finish(self, patience: float = 5.0) -> None:
        """Write what was promised, as far as that takes `patience` seconds; everything else stays as it is.

        For the end of a program that never closes its engine: nothing here starts a thread, which Python
        forbids by then.
        """
        if not self.is_open:
            return
        until, done = time.monotonic() + patience, False
        try:
            finishing: Future[bool] = self._ask(lambda: self.engine.finish(patience))
            done = finishing.result(patience + 1.0)
            done = self.store.flush(max(0.1, until - time.monotonic())) and done
        except (ZitError, FutureTimeoutError) as error:
            log.debug("finishing met an error", exc_info=error)
        if not done:
            log.warning("the program ends before all results are written: the newest are lost")
        self.observer.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def _preload(self, model: ModelRef) -> None:
        if isinstance(self.renderer, HoldsWeights):
            await self.renderer.preload(await self._resolved(model))

    async def _preload_all(self) -> None:
        for source in self.settings.preload:
            try:
                await self._preload(ModelRef(source=source))
            except ZitError as error:
                log.warning("%r was not preloaded: %s", source, error)

    async def _unload(self, model: ModelRef | None) -> int:
        renderer = self._renderer_made
        if not isinstance(renderer, HoldsWeights):
            return 0
        if model is None:
            return await renderer.unload_all()
        return int(await renderer.unload(await self._resolved(model)))

    async def _park(self) -> None:
        if isinstance(renderer := self._renderer_made, HoldsWeights):
            await renderer.park_all()

    async def _holdings(self) -> Holdings | None:
        if (renderer := self._renderer_made) is None:
            return None
        from .renderers.model_server import ServerRenderer
        from .renderers.several import InThisProcess

        if isinstance(renderer, InThisProcess):
            return renderer.holdings()
        return await renderer.holdings() if isinstance(renderer, ServerRenderer) else None

    def _holdings_soon(self) -> Holdings | None:
        """Return what is held, on a thread that may wait a moment for it."""
        asked: Future[Holdings | None] = self._ask(self._holdings)
        try:
            return asked.result(timeout=2.0)
        finally:
            asked.cancel()

    def _own_holdings(self) -> Holdings | None:
        """Return what this process holds itself. From any thread."""
        either = self._renderer
        made = either.here.made if isinstance(either, EitherRenderer) else None
        return None if made is None else made.holdings()

    async def _resolved(self, model: ModelRef) -> ModelRef:
        asked = self.engine.at_the_door(Request(prompt="", seed=0, model=model))
        return (await asyncio.to_thread(self.files.resolve, asked)).model

    def _renderer_here(self, label: str) -> HereRenderer:
        from .models.ledger import Ledger
        from .renderers.several import renderer_of

        return renderer_of(
            self.settings,
            open_pipeline=self._open_pipeline,
            make_room=self.hooks.make_room,
            ledger=lambda: Ledger(self.settings.data_dir / "ledger", label),
        )

    def _renderer_there(self) -> ServerRenderer:
        # Imports wait for who needs them: a hit in a new process is not to pay for rendering.
        from .model_server.agreement import render_fields
        from .renderers.model_server import ServerRenderer

        return ServerRenderer(self.settings, fields=lambda request: render_fields(self.hooks, request))

    def _open_pipeline(self, model: ModelRef) -> Pipeline:
        pipeline = self.hooks.open_pipeline(model)
        if pipeline is None:
            raise PluginError("zimage", f"no plugin opens {model.source!r}")
        return pipeline

    def _open_zimage(self, model: ModelRef) -> Pipeline:
        from .models import zimage  # brings torch: only when weights are really wanted

        return zimage.open_pipeline(model, self.settings)

    def _start(self, work: Callable[[], object]) -> Future[T]:
        if (hook := hook_running()) is not None:
            raise PluginError(hook.split(".")[0], f"{hook} asked the engine from inside a hook; answer first")
        if not self.is_open:
            raise EngineClosedError("the engine is closed" if self._closed else "a fork needs a new Runtime")
        return self._ask(work)

    def _ask(self, work: Callable[[], object]) -> Future[T]:
        """Return a future that is answered even if a hook holds the engine's thread: HookHangsError."""
        inner: Future[T] = asyncio.run_coroutine_threadsafe(work(), self._loop)  # type: ignore[arg-type]
        asked = self._outstanding.follow(inner)
        if (call := WATCH.hanging(self._thread.ident)) is not None:
            self._hook_hangs(call)
        return asked

    def _hook_hangs(self, call: Call) -> None:
        """Let those go who wait for the engine's thread, if that is where the hook hangs."""
        if call.thread == self._thread.ident:
            self._outstanding.fail(HookHangsError(call.plugin, call.hook))


async def _end_tasks(patience: float = 1.0) -> None:
    """Cancel what is left on this loop, such as a render that did not end when it was told to."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=patience)


def plugins_for(settings: Settings, label: str = "python") -> Plugins:
    """Return the plugins that these settings allow. What goes wrong with them is written down for others."""
    disabled = set(settings.disabled_plugins)
    if not settings.bypass_dynamic_prompts:
        disabled.add("dynamic_prompts")
    return find_plugins(
        disabled=disabled,
        folder=settings.plugin_dir,
        troubles=Troubles(troubles_path(settings), where=label),
        slow_seconds=settings.hook_seconds,
        hang_seconds=settings.hook_hang_seconds,
    )


def troubles_path(settings: Settings) -> Path:
    """Return where the programs of this user write down what went wrong with plugins."""
    return settings.cache_dir / "plugin-troubles.json"


def limits_of(settings: Settings) -> Limits:
    """Return how long hooks may take under these settings."""
    return Limits(
        settings.hook_seconds, settings.hook_slow_calls, settings.hook_hang_seconds, settings.load_timeout
    )


def _wait(future: Future[T], interrupted: Callable[[], bool]) -> T:
    while True:
        try:
            return future.result(timeout=0.1)
        except FutureTimeoutError:
            if future.done():
                raise
            if interrupted():
                future.cancel()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits any longer
            raise
