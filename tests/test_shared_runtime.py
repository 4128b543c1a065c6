"""The runtime of a web UI: it is there from the first call to the end of the program."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from zit_ext.model_server.starting import settings_argument
from zit_ext.runtime import Runtime
from zit_ext.shared_runtime import shared
from zit_ext.testing import FakePipeline, FakeRenderer

PROGRAM = """
import json, sys, threading, time
from zit_ext import shared_runtime
from zit_ext.models import resolver
from zit_ext.records import ModelRef
from zit_ext.results.store import ResultStore
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings
from zit_ext.testing import FakePipeline, FakeRenderer, make_request

given, source, slow = sys.argv[1:]
renderer = FakeRenderer(FakePipeline(sizes={}))
shared_runtime.Runtime = lambda settings, label: Runtime(settings, renderer=renderer, label=label)

def late(work, seconds):
    def worked(*about):
        time.sleep(seconds)
        return work(*about)
    return worked

resolver.AT_ONCE = 0  # every digest is made beside the render
if slow == "writes":
    ResultStore._write_down = late(ResultStore._write_down, 0.5)
if slow == "digests":
    resolver.Resolver.complete = late(resolver.Resolver.complete, 0.5)
if slow == "endless digests":
    resolver.Resolver.complete = late(resolver.Resolver.complete, 600.0)
    Runtime.finish.__defaults__ = (0.2,)

runtime = shared_runtime.shared(settings=Settings().with_values(json.loads(given), "the test"))
result = runtime.generate_blocking(make_request(model=ModelRef(source=source)))
print(json.dumps([result.status.outcome.value, result.digest]), flush=True)
raise KeyboardInterrupt
"""


def run(settings, model, slow=""):
    """Run a program that asks for one picture and is ended by Ctrl-C; return its answer and its errors."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, settings_argument(settings), model.source, slow],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert "KeyboardInterrupt" in ended.stderr
    return *json.loads(ended.stdout), ended.stderr


@pytest.mark.parametrize("slow", ["writes", "digests"])
def test_ctrl_c_in_a_web_ui_loses_no_result_that_was_answered(settings, model, slow):
    outcome, digest, _ = run(settings, model, slow)
    assert outcome == "miss"

    assert run(settings, model)[:2] == ("hit", digest)


def test_ctrl_c_waits_for_no_endless_digest_and_says_what_is_lost(settings, model):
    outcome, digest, told = run(settings, model, "endless digests")
    assert outcome == "miss"
    assert "the newest are lost" in told

    assert run(settings, model)[:2] == ("miss", digest)


def test_the_runtime_of_a_host_preloads_when_it_starts(settings, model, monkeypatch):
    renderer, asked = FakeRenderer(FakePipeline(sizes={})), threading.Event()

    async def preload(wanted):
        assert wanted.path == Path(model.source)
        asked.set()

    async def unload(wanted):
        return False

    async def unload_all():
        return 0

    async def park_all():
        pass

    renderer.preload, renderer.unload = preload, unload
    renderer.unload_all, renderer.park_all = unload_all, park_all
    monkeypatch.setattr(
        "zit_ext.shared_runtime.Runtime",
        lambda settings, label: Runtime(settings, renderer=renderer, label=label),
    )
    monkeypatch.setattr("zit_ext.shared_runtime._shared", None)
    with shared(settings=replace(settings, preload=(model.source,))) as runtime:
        assert shared() is runtime
        assert asked.wait(20)
