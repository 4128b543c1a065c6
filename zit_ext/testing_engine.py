"""An engine to try plugins in: real hooks, keys and store in a folder of its own; weights only if wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .fingerprint import fingerprint
from .plugins import PluginReport, Plugins, Trouble, Troubles, find_plugins
from .records import Entry, Fingerprint, ModelRef, Request, Result
from .runtime import Runtime
from .settings import Settings
from .testing import FakeFiles, FakePipeline, FakeRenderer

T = TypeVar("T")


class TrialEngine:
    """Answers requests as the real thing does, plugins included, and says what it saw.

    `plugins` are registered by name, after those that are installed as packages (none of which take part
    with `installed=False`). Pictures come from a `FakePipeline` and files from `FakeFiles`; with
    `real_weights=True` the plugins' pipelines are opened, moved and asked to render. Everything else is a
    setting by name, such as `eviction="mine"`. No setting of yours is read, and hooks may be slow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        plugins: Mapping[str, object] | None = None,
        installed: bool = True,
        real_weights: bool = False,
        **settings: object,
    ) -> None:
        usual = Settings(cache_dir=folder, memory_bytes=0, max_bytes=0, offline=True, hook_seconds=0.0)
        self.settings = usual.with_values(settings, "the test")
        self.pipeline = FakePipeline(sizes={})
        """What renders, unless the weights are real: `rendered` lists the requests."""
        self.files = FakeFiles()
        self.plugins = self._found(plugins or {}, installed)
        self.runtime = Runtime(
            self.settings,
            plugins=self.plugins,
            renderer=None if real_weights else FakeRenderer(self.pipeline),
            files=None if real_weights else self.files,
            label="test",
        )

    @property
    def rendered(self) -> list[Request]:
        """The requests that the fake weights rendered, in order: the misses and the bypasses."""
        return list(self.pipeline.rendered)

    @property
    def reports(self) -> Mapping[str, PluginReport]:
        """What is known of each plugin, by name: hooks, fields_version, or why it was left out."""
        return dict(self.plugins.reports)

    @property
    def troubles(self) -> Sequence[Trouble]:
        """What went wrong with plugins, the newest first."""
        return self.plugins.troubles.all()

    def generate(self, request: Request) -> Result:
        """Answer a request; raises what the engine raises."""
        return self.runtime.generate_blocking(request)

    def fingerprint(self, request: Request) -> Fingerprint:
        """Return key and fields of the request as they are now, in an environment that never changes.

        Raises PluginError if a plugin's answer has no place in a key.
        """
        return self._on_engine_thread(lambda: self._fingerprint(request))

    def bypass_reason(self, request: Request) -> str | None:
        """Return why a plugin, broken or not, keeps the request away from the cache, or None."""
        asked = self.runtime.engine.at_the_door(request)
        bypass = self._on_engine_thread(lambda: self.runtime.hooks.bypass(asked))
        return bypass.words if bypass else None

    def open_pipeline(self, model: ModelRef) -> object:
        """Return the pipeline that the plugins open for these weights, as the holder would ask for it."""
        resolved = self.runtime.files.resolve(Request(prompt="", seed=0, model=model))
        return self.runtime.hooks.open_pipeline(resolved.model)

    def make_room(self, bytes_needed: int, device: str = "cpu") -> int:
        """Return how many bytes the plugins freed together, as the holder would ask for them."""
        return self.runtime.hooks.make_room(bytes_needed, device)

    def stored(self) -> list[Entry]:
        """Return the entries of the store, after everything that waits was written."""
        self.runtime.store.flush()
        return self.runtime.store.entries()

    def close(self) -> None:
        """Write what waits, and end the threads. Twice is fine."""
        self.runtime.close()

    def __enter__(self) -> TrialEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _found(self, plugins: Mapping[str, object], installed: bool) -> Plugins:
        found = find_plugins(
            disabled=self.settings.disabled_plugins,
            folder=self.settings.plugin_dir,
            entry_points=installed,
            troubles=Troubles(where="test"),
        )
        for name, plugin in plugins.items():
            found.register(plugin, name)
        return found

    def _fingerprint(self, request: Request) -> Fingerprint:
        asked = self.runtime.engine.at_the_door(request)
        resolved = self.runtime.files.resolve(asked)
        return fingerprint({**self.runtime.hooks.fingerprint_fields(resolved), "environment": "test"})

    def _on_engine_thread(self, ask: Callable[[], T]) -> T:
        async def asked() -> T:
            return ask()

        return asyncio.run_coroutine_threadsafe(asked(), self.runtime._loop).result()
