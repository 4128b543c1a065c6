"""The ways in: from fresh loops, from many threads, from inside a hook (refused)."""

import asyncio
import os
import subprocess
import sys
import threading
import types
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import pytest

from zit_ext import Outcome, hookimpl
from zit_ext.errors import EngineClosedError, PluginError
from zit_ext.pipeline import WeightTier
from zit_ext.plugins import find_plugins
from zit_ext.renderers.late import LateRenderer
from zit_ext.results import lookup
from zit_ext.results.claims import Claims
from zit_ext.runtime import Runtime
from zit_ext.testing import FakePipeline, FakeRenderer, make_request


@pytest.fixture
def ask(model):
    return lambda **changes: make_request(model=model, **changes)


@pytest.fixture
def pipeline():
    return FakePipeline(sizes={})


@pytest.fixture
def runtime(settings, pipeline):
    with Runtime(
        settings, plugins=find_plugins(entry_points=False), renderer=FakeRenderer(pipeline)
    ) as runtime:
        yield runtime


def test_a_fresh_loop_per_prompt_as_comfyui_does(runtime, ask):
    outcomes = [asyncio.run(runtime.generate(ask())).status.outcome for _ in range(3)]
    assert outcomes == [Outcome.MISS, Outcome.HIT, Outcome.HIT]


def test_many_threads_as_a1111_does(runtime, pipeline, ask):
    threads = [threading.Thread(target=runtime.generate_blocking, args=[ask()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pipeline.rendered) == 1


def test_two_loops_share_one_render(runtime, pipeline, ask):
    pipeline.gate.clear()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(runtime.generate(ask()))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    pipeline.started.wait(10)
    threading.Event().wait(0.2)
    pipeline.gate.set()
    for thread in threads:
        thread.join()
    assert len(pipeline.rendered) == 1


def test_an_interrupted_host_stops_the_render(runtime, pipeline, ask):
    pipeline.gate.clear()
    with pytest.raises(CancelledError):
        runtime.generate_blocking(ask(), interrupted=lambda: True)
    pipeline.gate.set()
    assert runtime.generate_blocking(ask()).status.outcome is Outcome.MISS


def test_a_new_process_hits_what_the_last_one_kept(settings, pipeline, ask):
    for expected in (Outcome.MISS, Outcome.HIT):
        plugins = find_plugins(entry_points=False)
        with Runtime(settings, plugins=plugins, renderer=FakeRenderer(FakePipeline(sizes={}))) as runtime:
            assert runtime.generate_blocking(ask()).status.outcome is expected


def test_a_replaced_file_is_a_miss(runtime, ask, model):
    runtime.generate_blocking(ask())
    (Path(model.source) / "model.safetensors").write_bytes(b"others!")
    assert runtime.generate_blocking(ask()).status.outcome is Outcome.MISS


def test_a_hook_that_asks_the_engine_is_refused(settings, ask):
    plugins = find_plugins(entry_points=False)
    refusals = []

    def ask_again(request):
        try:
            runtime.generate_blocking(ask())
        except PluginError as error:
            refusals.append(str(error))

    hook = hookimpl(ask_again, specname="zit_bypass_reason")
    plugins.register(types.SimpleNamespace(zit_bypass_reason=hook), "eager")
    with Runtime(settings, plugins=plugins, renderer=FakeRenderer()) as runtime:
        assert runtime.generate_blocking(ask()).status.outcome is Outcome.MISS
    assert "inside a hook" in refusals[0]


def test_closing_twice_is_fine_and_asking_afterwards_says_so(settings, ask):
    runtime = Runtime(settings, plugins=find_plugins(entry_points=False), renderer=FakeRenderer())
    runtime.close()
    runtime.close()
    with pytest.raises(EngineClosedError):
        runtime.submit(ask())


def test_who_still_waits_when_it_closes_is_told_so(settings, ask):
    pipeline = FakePipeline(sizes={})
    pipeline.gate.clear()
    runtime = Runtime(settings, plugins=find_plugins(entry_points=False), renderer=FakeRenderer(pipeline))
    try:
        future = runtime.submit(ask())
        assert pipeline.started.wait(30)
        runtime.close(patience=0.1)
        with pytest.raises(EngineClosedError):
            future.result(30)
    finally:
        pipeline.gate.set()


def test_the_broken_disk_story_ends_in_pictures(settings, ask, tmp_path):
    (tmp_path / "file").write_text("in the way")
    plugins = find_plugins(entry_points=False)
    broken = replace(settings, cache_dir=tmp_path / "file" / "below")
    with Runtime(broken, plugins=plugins, renderer=FakeRenderer()) as runtime:
        assert runtime.generate_blocking(ask()).status.outcome is Outcome.BYPASS


@pytest.mark.parametrize(
    "fault", [ValueError("no such number"), UnicodeDecodeError("utf-8", b"\xba", 0, 1, "")]
)
def test_whatever_the_index_says_costs_a_hit_and_not_the_picture(settings, ask, monkeypatch, fault):
    """Nobody can list what a bad disk makes of the things that are read from it."""

    def bad(*_about):
        raise fault

    plugins = find_plugins(entry_points=False)
    with Runtime(settings, plugins=plugins, renderer=FakeRenderer()) as runtime:
        monkeypatch.setattr(lookup, "find_hit", bad)
        monkeypatch.setattr(Claims, "take", bad)
        assert runtime.generate_blocking(ask()).status.outcome is Outcome.MISS
        assert runtime.generate_blocking(ask(seed=2)).status.outcome is Outcome.MISS
        monkeypatch.undo()
        runtime.store.flush()
        assert runtime.generate_blocking(ask(seed=2)).status.outcome is Outcome.HIT


def test_weights_are_preloaded_and_unloaded_from_any_thread(settings, model, ask):
    opened, pipelines = [], []

    def open_pipeline(wanted):
        opened.append(wanted.path)
        pipelines.append(FakePipeline(sizes={"transformer": 10}))
        return pipelines[-1]

    plugins = find_plugins(entry_points=False)
    plugins.register(
        types.SimpleNamespace(zit_open_pipeline=hookimpl(lambda model: open_pipeline(model))), "fake"
    )
    local = replace(settings, renderer="local", device="cpu", keep_alive=-1.0)
    with Runtime(local, plugins=plugins) as runtime:
        runtime.preload_blocking(model)
        runtime.generate_blocking(ask())
        runtime.park_blocking()
        assert pipelines[0].tiers["transformer"] is WeightTier.RAM
        runtime.generate_blocking(ask(seed=2))
        assert pipelines[0].tiers["transformer"] is WeightTier.VRAM
        assert opened == [Path(model.source)]
        assert runtime.unload_blocking(model) == 1
        assert runtime.unload_blocking(model) == 0
        runtime.preload_blocking(model)
        assert runtime.unload_blocking() == 1
        assert len(opened) == 2


def test_the_models_of_the_setting_are_loaded_before_anybody_asks(settings, model, ask, caplog):
    opened = []

    def open_pipeline(wanted):
        opened.append(wanted.path)
        return FakePipeline(sizes={"transformer": 10})

    plugins = find_plugins(entry_points=False)
    plugins.register(
        types.SimpleNamespace(zit_open_pipeline=hookimpl(lambda model: open_pipeline(model))), "fake"
    )
    local = replace(
        settings, renderer="local", device="cpu", keep_alive=-1.0, preload=("no-such-model", model.source)
    )
    with Runtime(local, plugins=plugins) as runtime:
        assert opened == []
        runtime.begin_preloading().result(30)
        assert opened == [Path(model.source)]
        runtime.generate_blocking(ask())
        assert len(opened) == 1
    assert "'no-such-model' was not preloaded: no weights for" in caplog.text


def test_a_renderer_without_weights_has_nothing_to_unload(runtime, model):
    runtime.preload_blocking(model)
    runtime.park_blocking()
    assert runtime.unload_blocking() == 0


def test_a_program_of_hits_makes_no_renderer():
    made: list[FakeRenderer] = []

    def make():
        made.append(FakeRenderer())
        return made[-1]

    late = LateRenderer(make)
    asyncio.run(late.close())

    assert made == []


def test_a_look_at_the_weights_makes_no_renderer(settings, model):
    def make():
        raise AssertionError("nothing is to be rendered")

    with Runtime(settings, plugins=find_plugins(entry_points=False), renderer=LateRenderer(make)) as runtime:
        assert asyncio.run(runtime.holdings()) is None
        assert (runtime.unload_blocking(), runtime.unload_blocking(model)) == (0, 0)
        runtime.observer.history.look_now()


def test_many_threads_that_need_a_renderer_get_the_same_one():
    late = LateRenderer(FakeRenderer)
    start = threading.Barrier(8)
    got: list[FakeRenderer] = []

    def need():
        start.wait()
        got.append(late.itself())

    threads = [threading.Thread(target=need) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(each) for each in got}) == 1


def test_a_renderer_that_could_not_be_made_is_made_at_the_next_need():
    troubles = [OSError("the ledger's folder is gone")]

    def make():
        if troubles:
            raise troubles.pop()
        return FakeRenderer()

    late = LateRenderer(make)
    with pytest.raises(OSError, match="ledger"):
        late.itself()

    assert isinstance(late.itself(), FakeRenderer)


def test_the_late_renderer_is_closed_with_the_runtime(settings, model):
    late = LateRenderer(FakeRenderer)
    with Runtime(settings, plugins=find_plugins(entry_points=False), renderer=late) as runtime:
        runtime.generate_blocking(make_request(model=model))
        pipeline = runtime.renderer.pipeline

    assert pipeline.closed


def test_a_runtime_that_was_closed_leaves_no_thread_behind(settings, model):
    before = set(threading.enumerate())
    for _ in range(2):
        with Runtime(settings, plugins=find_plugins(entry_points=False), renderer=FakeRenderer()) as runtime:
            runtime.generate_blocking(make_request(model=model))

    left = [each for each in threading.enumerate() if each not in before and each.name != "zit-hook-watch"]
    for thread in left:
        thread.join(10)  # it may just be on its way
    assert not [each.name for each in left if each.is_alive()]


FORKED = """
import os, sys, threading
from pathlib import Path
from zit_ext.errors import EngineClosedError
from zit_ext.shared_runtime import shared
from zit_ext.settings import Settings
from zit_ext.testing import make_request

runtime = shared(settings=Settings(cache_dir=Path(sys.argv[1]), data_dir=Path(sys.argv[1])))
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    runtime.generate_blocking(make_request())
except EngineClosedError as error:
    print(error)
runtime.close()
another = shared(settings=Settings(cache_dir=Path(sys.argv[1]), data_dir=Path(sys.argv[1])))
print(another is not runtime, len(another.store.entries()))
another.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_is_told_so_and_gets_a_runtime_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "a fork needs a new Runtime",
        "True 0",
    ]
