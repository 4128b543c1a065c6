"""Each hook fails in each way: what that costs is in docs/plugins.md, and nothing more."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from enum import Enum

import pytest

from zit_ext import ModelRef, Outcome, Request, Result, hookimpl, plugin_calls
from zit_ext.errors import HookHangsError, ModelError
from zit_ext.plugin_checks import HOOKS
from zit_ext.plugin_watch import WATCH
from zit_ext.testing import FakeClock, FakePipeline, make_request
from zit_ext.testing_engine import TrialEngine


class Costs(Enum):
    """What a failure costs the user."""

    BYPASS = "the picture is rendered, and the cache is not used"
    NOT_KEPT = "the picture is rendered, and not kept"
    NOTHING = "all is as if the plugin were not there"


COSTS = {
    "zit_fingerprint_fields": Costs.BYPASS,
    "zit_bypass_reason": Costs.BYPASS,
    "zit_eviction_score": Costs.NOT_KEPT,
    "zit_open_pipeline": Costs.NOTHING,
    "zit_make_room": Costs.NOTHING,
    "zit_request_finished": Costs.NOTHING,
}
NONSENSE = {
    "zit_fingerprint_fields": {"a": object()},
    "zit_bypass_reason": 42,
    "zit_eviction_score": float("nan"),
    "zit_open_pipeline": "a pipeline, honestly",
    "zit_make_room": "lots",
    "zit_request_finished": "thank you",  # nobody asks it for an answer: it is ignored
}
IN_ENGINE_THREAD = ("zit_fingerprint_fields", "zit_bypass_reason", "zit_request_finished")


def test_the_table_knows_every_hook():
    assert set(COSTS) == set(NONSENSE) == set(HOOKS)


class Bad:
    """A plugin with one hook, which does what it is told."""

    def __init__(self, hook: str, does: Callable[[], object]) -> None:
        self.calls = 0

        def implementation() -> object:
            self.calls += 1
            return does()

        setattr(self, hook, hookimpl(implementation, specname=hook))


@pytest.fixture
def engine_with(make_zit_engine) -> Callable[..., TrialEngine]:
    """Open an engine with a real holder, some weights of a plugin, and a bad plugin that is asked first."""

    def make(bad: object, **settings: object) -> TrialEngine:
        weights = types.SimpleNamespace(
            zit_open_pipeline=hookimpl(lambda: FakePipeline(), specname="zit_open_pipeline")
        )
        return make_zit_engine(
            plugins={"weights": weights, "bad": bad},
            installed=False,
            real_weights=True,
            device="cpu",
            **settings,
        )

    return make


def ask(seed: int = 1, **changes: object) -> Request:
    return make_request(seed=seed, model=ModelRef(source="fake:weights"), **changes)


def raises() -> object:
    raise ZeroDivisionError("nobody can divide by zero")


def exits() -> object:
    sys.exit("enough of this")


@pytest.mark.parametrize("way", [raises, exits, "nonsense"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_fails_costs_what_the_table_says(engine_with, hook, way, caplog):
    bad = Bad(hook, way if callable(way) else lambda: NONSENSE[hook])
    engine = engine_with(bad)
    first = engine.generate(ask())
    entries = engine.stored()
    second = engine.generate(ask())
    expected = {
        Costs.BYPASS: (Outcome.BYPASS, Outcome.BYPASS, 0),
        Costs.NOT_KEPT: (Outcome.MISS, Outcome.MISS, 0),
        Costs.NOTHING: (Outcome.MISS, Outcome.HIT, 1),
    }
    assert (first.status.outcome, second.status.outcome, len(entries)) == expected[COSTS[hook]]
    assert first.digest == second.digest
    assert bad.calls > 0
    if COSTS[hook] is Costs.BYPASS:
        assert (first.status.reason, "'bad'" in first.status.detail) == ("plugin_failed", True)
    if (hook, way) != ("zit_request_finished", "nonsense"):
        trouble = engine.troubles[0]
        assert (trouble.plugin, trouble.hook) == ("bad", hook)
        assert trouble.kind == ("nonsense" if way == "nonsense" else "failed")
        assert "'bad'" in caplog.text


@pytest.mark.parametrize("hook", HOOKS)
def test_a_slow_hook_is_named_and_after_three_times_its_requests_go_on_without_it(
    engine_with, hook, monkeypatch, caplog
):
    clock = FakeClock()
    monkeypatch.setattr(plugin_calls, "perf_counter", clock)
    bad = Bad(hook, lambda: clock.advance(1000.0))
    engine = engine_with(bad, hook_seconds=2, hook_slow_calls=3, load_timeout=900)
    results = []
    for seed in range(1, 6):
        results.append(engine.generate(ask(seed)))
        engine.stored()
    last = results[-1].status
    assert any((trouble.plugin, trouble.kind) == ("bad", "slow") for trouble in engine.troubles)
    assert f"plugin 'bad' took 1000.0 s in {hook}" in caplog.text
    patient = hook in plugin_calls.PATIENT_HOOKS
    assert bad.calls == (1 if hook == "zit_open_pipeline" else bad.calls if patient else 3)
    if COSTS[hook] is Costs.BYPASS:
        assert (last.outcome, last.reason) == (Outcome.BYPASS, "plugin_slow")
        assert "'bad' is too slow" in last.detail
    else:
        assert last.outcome is Outcome.MISS
    # Who is not asked for a score has no say in what is kept; the built-in policy has.
    kept_to_the_end = engine.generate(ask(5)).status.outcome is Outcome.HIT
    assert kept_to_the_end == (COSTS[hook] is not Costs.BYPASS)


def test_who_is_slow_now_and_then_is_named_and_asked_again(engine_with, monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(plugin_calls, "perf_counter", clock)
    bad = Bad("zit_request_finished", lambda: clock.advance(3.0 if bad.calls % 2 else 0.0))
    engine = engine_with(bad, hook_seconds=2, hook_slow_calls=2)
    for seed in range(1, 9):
        engine.generate(ask(seed))
    assert bad.calls == 8
    assert [trouble.times for trouble in engine.troubles] == [4]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hook that does not return waits for; open at the latest when the test ends."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_never_returns_is_reported_with_its_stack_and_stops_nobody(
    engine_with, hook, gate, caplog
):
    def never_returns() -> None:
        gate.wait(60)

    bad = Bad(hook, never_returns)
    engine = engine_with(
        bad, hook_hang_seconds=1, load_timeout=1 if hook in plugin_calls.PATIENT_HOOKS else 900
    )
    future = engine.runtime.submit(ask())
    trouble = wait_for_trouble(engine)
    assert (trouble.plugin, trouble.hook, trouble.kind) == ("bad", hook, "hung")
    assert "never_returns" in trouble.words
    assert "gate.wait(60)" in trouble.words
    assert "'bad'" in caplog.text
    if hook in IN_ENGINE_THREAD:
        for asked in (future, engine.runtime.submit(ask(2))):
            with pytest.raises(HookHangsError, match="ZIT_DISABLED_PLUGINS=bad"):
                asked.result(30)
    elif hook == "zit_eviction_score":
        assert engine.generate(ask(2)).status.outcome is Outcome.MISS
    elif hook == "zit_open_pipeline":
        with pytest.raises(ModelError, match="longer than 1 second"):
            future.result(30)
    elif hook == "zit_make_room":
        gate.set()
        assert future.result(30).status.outcome is Outcome.MISS
    gate.set()
    wait_until(lambda: not any(call.reported for call in WATCH.running()))
    assert answered_in_the_end(engine, ask(3)).status.outcome is Outcome.MISS


def test_who_waits_for_a_hook_that_never_returns_is_let_go(engine_with, gate):
    engine = engine_with(Bad("zit_bypass_reason", lambda: gate.wait(60) and None), hook_hang_seconds=1)
    with pytest.raises(HookHangsError, match="zit_bypass_reason does not return"):
        engine.generate(ask())
    engine.close()  # returns, too: the host can end


def answered_in_the_end(engine: TrialEngine, request: Request) -> Result:
    """Ask again while the load takes longer than a second: a busy machine is no fault of a plugin."""
    for _ in range(20):
        try:
            return engine.generate(request)
        except ModelError:
            time.sleep(0.5)
    return engine.generate(request)


def test_a_policy_that_never_returns_does_not_keep_the_program_from_ending(engine_with, gate):
    engine = engine_with(Bad("zit_eviction_score", lambda: gate.wait(300)), hook_hang_seconds=1)
    future = engine.runtime.submit(ask())
    assert wait_for_trouble(engine).hook == "zit_eviction_score"
    closing = threading.Thread(target=engine.runtime.close, kwargs={"patience": 1.0}, daemon=True)
    closing.start()
    closing.join(200)
    assert not closing.is_alive()
    assert future.done()


def wait_for_trouble(engine: TrialEngine):
    def hung():
        return [trouble for trouble in engine.troubles if trouble.kind == "hung"]

    wait_until(hung)
    return hung()[0]


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 seconds")


GOOD = "from zit_ext import hookimpl\n@hookimpl\ndef {hook}(): return None\n"
WRONG_FILES = {
    "unknown argument": "from zit_ext import hookimpl\n@hookimpl\ndef {hook}(colour): return None\n",
    "misspelt": "from zit_ext import hookimpl\n@hookimpl\ndef {hook}s(): return None\n",
    "import failure": "import a_package_that_nobody_has\n" + GOOD,
    "syntax error": "def (\n",
    "exits at import": "raise SystemExit(3)\n",
    "not marked": "def {hook}(): return None\n",
    "a default": "from zit_ext import hookimpl\n@hookimpl\ndef {hook}({argument}=None): return None\n",
    "any arguments": "from zit_ext import hookimpl\n@hookimpl\ndef {hook}(**arguments): return None\n",
    "coroutine": "from zit_ext import hookimpl\n@hookimpl\nasync def {hook}(): return None\n",
    "generator": "from zit_ext import hookimpl\n@hookimpl\ndef {hook}(): yield None\n",
    "wrapper": "from zit_ext import hookimpl\n@hookimpl(wrapper=True)\ndef {hook}(): return (yield)\n",
    "odd version": GOOD + "fields_version = 'two'\n",
    "odd touches": GOOD + "touches = 'pictures'\n",
}


@pytest.mark.parametrize("way", WRONG_FILES)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_plugin_that_is_wrong_from_the_start_is_left_out_until_it_is_mended_or_disabled(
    make_zit_engine, tmp_path, hook, way, caplog
):
    folder = tmp_path / "plugins"
    folder.mkdir()
    file = folder / "bad.py"
    file.write_text(WRONG_FILES[way].format(hook=hook, argument=HOOKS[hook][0]))
    options = {"installed": False, "plugin_dir": str(folder)}
    with make_zit_engine(**options) as engine:
        status = engine.generate(make_request()).status
        assert (status.outcome, status.reason) == (Outcome.BYPASS, "plugin_broken")
        assert "'bad'" in status.detail
        assert engine.reports["bad"].broken
        assert engine.troubles[0].kind == "left_out"
        assert "plugin 'bad' (file bad.py) was left out" in caplog.text
    with make_zit_engine(**options, disabled_plugins="bad") as engine:
        assert engine.generate(make_request(seed=2)).status.outcome is Outcome.MISS
    file.write_text(GOOD.format(hook=hook))
    with make_zit_engine(**options) as engine:
        assert engine.reports["bad"].broken is None
        assert engine.generate(make_request(seed=3)).status.outcome is Outcome.MISS


def test_a_broken_plugin_bypasses_only_what_it_declares_to_touch(make_zit_engine, tmp_path):
    (tmp_path / "bad.py").write_text("touches = ('audio/*',)\ndef zit_make_room(): return 0\n")
    engine = make_zit_engine(installed=False, plugin_dir=str(tmp_path))
    assert engine.reports["bad"].broken
    assert engine.generate(make_request()).status.outcome is Outcome.MISS
    assert engine.generate(make_request(media_type="audio/wav")).status.outcome is Outcome.BYPASS


def test_who_speaks_for_pixels_and_fails_when_weights_are_opened_keeps_nothing(engine_with):
    class Patch:
        """Says what it does to the weights when they are opened."""

        level, fails = 1, True

        @hookimpl
        def zit_fingerprint_fields(self):
            return {"level": self.level} if self.level else {}

        @hookimpl
        def zit_open_pipeline(self):
            if self.fails:
                raises()

    patch = Patch()
    with engine_with(patch) as engine:
        status = engine.generate(ask()).status
        assert (status.outcome, status.stored) == (Outcome.MISS, False)
        assert "'bad' failed when the weights were opened" in status.detail
        assert engine.generate(ask()).status.outcome is Outcome.MISS
        patch.level = 0  # then it has no say, and there is nothing to doubt
        assert engine.generate(ask()).status.stored
    patch.level, patch.fails = 1, False
    with engine_with(patch) as engine:
        assert [engine.generate(ask()).status.outcome for _ in range(2)] == [Outcome.MISS, Outcome.HIT]


def test_a_failing_plugin_bypasses_only_what_it_declares_to_touch(make_zit_engine):
    bad = Bad("zit_fingerprint_fields", raises)
    bad.touches = ("audio/*",)
    engine = make_zit_engine(installed=False, plugins={"bad": bad})
    assert engine.generate(make_request()).status.outcome is Outcome.MISS
    assert bad.calls == 0
    assert engine.generate(make_request(media_type="audio/wav")).status.reason == "plugin_failed"


class MuteError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_costs_a_hit_as_any_other(engine_with):
    def fields() -> object:
        raise MuteError

    engine = engine_with(Bad("zit_fingerprint_fields", fields))
    assert engine.generate(ask()).status.reason == "plugin_failed"
