"""What a pipeline remembers between renders belongs to what plugins said when it was made."""

from __future__ import annotations

import types
from contextlib import nullcontext
from dataclasses import replace

import pytest

from zit_ext import CacheMode, ModelRef, Outcome, hookimpl
from zit_ext.testing import QuietWatcher, make_request


class Patch:
    """A plugin whose effect is turned on and off while weights stay resident."""

    def __init__(self) -> None:
        self.level = 0

    @hookimpl
    def zit_fingerprint_fields(self) -> dict[str, int]:
        return {"level": self.level} if self.level else {}


@pytest.fixture
def patch() -> Patch:
    return Patch()


@pytest.fixture
def engine(make_zit_engine, patch):
    return make_zit_engine(plugins={"patch": patch}, installed=False)


def contexts(engine, *requests):
    for request in requests:
        engine.generate(request)
    return [request.context for request in engine.rendered[-len(requests) :]]


def test_requests_share_a_context_while_plugins_say_the_same(engine, patch):
    one, other = contexts(engine, make_request(seed=1), make_request(seed=2, prompt="a fox"))
    assert one == other
    patch.level = 1
    (patched,) = contexts(engine, make_request(seed=3))
    patch.level = 0
    assert patched != one
    assert contexts(engine, make_request(seed=4)) == [one]


def test_a_bypass_has_the_context_too(engine, patch):
    kept, bypassed = contexts(engine, make_request(), make_request(cache=CacheMode.BYPASS))
    assert kept == bypassed
    patch.level = 1
    assert contexts(engine, make_request(cache=CacheMode.BYPASS)) != [kept]


def test_if_a_plugin_cannot_say_what_it_does_nothing_remembered_fits(make_zit_engine):
    def fail():
        raise ZeroDivisionError

    plugin = types.SimpleNamespace(zit_fingerprint_fields=hookimpl(fail, specname="zit_fingerprint_fields"))
    engine = make_zit_engine(plugins={"failing": plugin}, installed=False)
    one, other = contexts(engine, make_request(), make_request())
    assert one != other


def test_a_context_that_changed_during_a_render_is_never_found_again(engine, patch):
    (before,) = contexts(engine, make_request(seed=1))
    engine.pipeline.gate.clear()
    engine.pipeline.started.clear()
    waiting = engine.runtime.submit(make_request(seed=2))
    assert engine.pipeline.started.wait(30)
    patch.level = 1
    engine.pipeline.gate.set()
    status = waiting.result(30).status
    assert (status.outcome, status.stored) == (Outcome.MISS, False)
    patch.level = 0
    assert contexts(engine, make_request(seed=3)) != [before]


def test_what_a_caller_puts_there_counts_for_nothing(engine):
    honest, forged = contexts(engine, make_request(seed=1), make_request(seed=2, context="forged"))
    assert honest == forged
    assert engine.generate(make_request(seed=1, context="forged")).status.outcome is Outcome.HIT


@pytest.mark.pipeline
def test_a_patched_text_encoder_does_not_get_the_embeddings_from_before(tmp_path):
    import torch

    from zit_ext.models import tiny, zimage
    from zit_ext.pipeline import WeightTier
    from zit_ext.settings import Settings

    folder = tiny.build(tmp_path / "model")
    model = ModelRef(source=str(folder), path=folder, dtype="float32")
    request = replace(make_request(model=model, width=64, height=64, steps=2), context="plain")

    def opened():
        pipeline = zimage.open_pipeline(model, Settings(device="cpu", cache_dir=tmp_path))
        for part in pipeline.parts:
            pipeline.move(part.name, WeightTier.VRAM)
        return pipeline

    def rendered(pipeline, request):
        return pipeline.render(request, lambda *parts: nullcontext(), QuietWatcher()).content.digest

    exact = torch.nn.functional.scaled_dot_product_attention
    resident = opened()
    plain = rendered(resident, request)
    try:
        torch.nn.functional.scaled_dot_product_attention = lambda *args, **options: (
            exact(*args, **options) * 0.5
        )
        patched = rendered(resident, replace(request, context="patched"))
        assert patched == rendered(opened(), replace(request, context="patched"))
    finally:
        torch.nn.functional.scaled_dot_product_attention = exact
    assert patched != plain
    assert rendered(resident, request) == plain
