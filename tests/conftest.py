from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from zit_ext.default_plugins.counting import Counting
from zit_ext.engine import Engine
from zit_ext.metrics import Metrics
from zit_ext.models.environment import EnvironmentBook
from zit_ext.plugins import Hooks, Plugins, find_plugins
from zit_ext.records import ModelRef
from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock, FakeFiles, FakePipeline, FakeRenderer

pytest_plugins = ["tests.browser_support"]

# How long one example takes says more about the machine than about us.
hypothesis.settings.register_profile("zit", deadline=None)
hypothesis.settings.load_profile("zit")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # In the background of a shell nobody is to hear Ctrl-C; programs that tests start must.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_in_the_checkout() -> Iterator[None]:
    """What tests write, they write elsewhere: what they left here once became part of a commit."""
    before = _own_names()
    yield
    assert _own_names() <= before


def _own_names() -> set[str]:
    made = {"build", "dist", "demo-output", "__pycache__"}  # the last by a host that imports from here
    names = {path.name for path in Path(__file__).parents[1].iterdir()} - made
    return {name for name in names if not name.startswith(".") and not name.endswith((".egg-info", ".pyc"))}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", max_bytes=10_000_000, memory_bytes=0)


@pytest.fixture
def model(tmp_path: Path) -> ModelRef:
    """A folder that the real resolver takes for weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return ModelRef(source=str(folder))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pipeline() -> FakePipeline:
    return FakePipeline(sizes={})


@pytest.fixture
def files() -> FakeFiles:
    return FakeFiles()


@pytest.fixture
def plugins() -> Plugins:
    return find_plugins(entry_points=False)


@pytest.fixture
def in_engine(settings, clock, pipeline, plugins, files) -> Callable[..., Awaitable[Any]]:
    """Run a story against an open engine with a real store; the renderer's weights are fake.

    What a story needs to be different is a setting by name.
    """

    async def tell(story: Callable[[Engine], Awaitable[Any]], **changes: Any) -> Any:
        changed = replace(settings, **changes)
        metrics = Metrics()
        plugins.register(Counting(metrics.answered), "metrics", "built in")
        hooks = Hooks(plugins, report=metrics.event)
        engine = Engine(
            changed,
            hooks=hooks,
            files=files,
            environments=EnvironmentBook(changed.cache_dir / "environments"),
            store=ResultStore(changed, score=hooks.eviction_score, clock=clock, count=metrics.event),
            renderer=FakeRenderer(pipeline),
            metrics=metrics,
            clock=clock,
        )
        await engine.open()
        try:
            return await story(engine)
        finally:
            await engine.close()

    return tell
