"""What the docs promise: the thread of each hook, no questions from inside, what a pipeline may answer."""

from __future__ import annotations

import inspect
import re
import threading
import types

import pytest

from zit_ext import Encoded, ModelRef, Outcome, Pixels, hookimpl, hookspecs
from zit_ext.errors import ModelError, PluginError
from zit_ext.pipeline import Rendered
from zit_ext.plugin_checks import HOOKS
from zit_ext.testing import FakePipeline, make_request


@pytest.fixture
def asks(make_zit_engine):
    """Ask twice for one picture, with a plugin whose every hook calls `does`, and return the outcomes."""

    def ask(does):
        def implementation(hook):
            def implemented():
                does(hook, engine)
                return FakePipeline() if hook == "zit_open_pipeline" else None

            return hookimpl(implemented, specname=hook)

        spy = types.SimpleNamespace(**{hook: implementation(hook) for hook in HOOKS})
        engine = make_zit_engine(
            plugins={"spy": spy}, installed=False, real_weights=True, device="cpu", load_timeout=30
        )
        request = make_request(model=ModelRef(source="fake:weights"))
        outcomes = []
        for _ in range(2):
            outcomes.append(engine.generate(request).status.outcome)
            engine.stored()
        assert engine.troubles == []
        return outcomes

    return ask


def test_each_hook_is_called_on_the_thread_that_it_names(asks):
    seen = {}
    asks(lambda hook, _engine: seen.setdefault(hook, set()).add(threading.current_thread().name))
    named = {
        hook: re.search(r"Thread: (\S+)\.", inspect.getdoc(getattr(hookspecs, hook)))[1] for hook in HOOKS
    }
    assert seen == {hook: {thread} for hook, thread in named.items()}


def test_from_inside_of_any_hook_the_engine_refuses_to_be_asked_and_says_so(asks):
    refusals = {}

    def eager(hook, engine):
        with pytest.raises(PluginError) as refused:
            engine.generate(make_request(seed=99))
        refusals[hook] = str(refused.value)

    assert asks(eager) == [Outcome.MISS, Outcome.HIT]
    assert refusals == {
        hook: f"plugin 'spy': spy.{hook} asked the engine from inside a hook; answer first" for hook in HOOKS
    }


PICTURE = Pixels(4, 4, 3, bytes(48))
WRONG_ANSWERS = {
    "nothing": (None, "NoneType, and no Rendered"),
    "text": ("a picture", "str, and no Rendered"),
    "no content": (Rendered(None, 1.0, {}), "content of type NoneType"),
    "no bytes": (Rendered(Encoded("image/png", "text"), 1.0, {}), "content of type Encoded"),
    "no seconds": (Rendered(PICTURE, None, {}), "seconds = None"),
    "no number": (Rendered(PICTURE, float("nan"), {}), "seconds = nan"),
    "less than nothing": (Rendered(PICTURE, -1.0, {}), "seconds = -1.0"),
    "no environment": (Rendered(PICTURE, 1.0, None), "an environment of type NoneType"),
}


@pytest.mark.parametrize("way", WRONG_ANSWERS)
def test_a_pipeline_that_answers_nonsense_is_asked_once_and_named(make_zit_engine, way):
    answer, words = WRONG_ANSWERS[way]
    pipeline = FakePipeline()
    asked = []
    pipeline.render = lambda *given: asked.append(given) or answer
    weights = types.SimpleNamespace(
        zit_open_pipeline=hookimpl(lambda: pipeline, specname="zit_open_pipeline")
    )
    engine = make_zit_engine(plugins={"weights": weights}, installed=False, real_weights=True, device="cpu")
    future = engine.runtime.submit(make_request(model=ModelRef(source="fake:weights")))
    with pytest.raises(ModelError, match=re.escape(words)):
        future.result(60)
    assert len(asked) == 1
