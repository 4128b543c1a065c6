from dataclasses import replace

import pytest
import zit_diffsynth

from zit_ext import ModelRef, Outcome, Request
from zit_ext.errors import GenerationStoppedError, RequestError
from zit_ext.testing import QuietWatcher, assert_field_changes_key, assert_same_key, make_request

pytest.importorskip("diffsynth.pipelines.z_image")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import tiny_weights

    return tiny_weights.build(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def ask(weights):
    return Request(prompt="a fox", seed=1, width=64, height=64, steps=2, model=ModelRef(source=str(weights)))


@pytest.fixture(autouse=True)
def _on(monkeypatch):
    monkeypatch.setattr(zit_diffsynth, "ON", True)


@pytest.fixture
def engine(make_zit_engine):
    return make_zit_engine(real_weights=True, device="cpu")


def test_its_pictures_and_those_of_diffusers_never_share_a_key(zit_engine, monkeypatch):
    ours = zit_engine.fingerprint(make_request())
    monkeypatch.setattr(zit_diffsynth, "ON", False)
    theirs = zit_engine.fingerprint(make_request())
    assert_field_changes_key(ours, theirs, "diffsynth.pipeline")
    assert_same_key(theirs, zit_engine.fingerprint(make_request()))


def test_the_real_pipeline_renders_once_and_is_answered_from_the_store(engine, ask):
    first, second = engine.generate(ask), engine.generate(ask)
    assert (first.status.outcome, second.status.outcome) == (Outcome.MISS, Outcome.HIT)
    assert first.pixels() == second.pixels()
    assert (first.pixels().width, first.pixels().height) == (64, 64)
    assert len(set(first.pixels().data)) > 50
    assert engine.pipeline.rendered == []


def test_a_hit_is_what_a_new_run_gives(engine, ask):
    assert engine.generate(ask).digest == engine.generate(replace(ask, cache="refresh")).digest


@pytest.mark.parametrize("change", [{"prompt": "an owl"}, {"seed": 2}, {"steps": 3}, {"guidance": 2.0}])
def test_what_changes_the_picture_is_in_the_key(engine, ask, change):
    usual, other = engine.generate(ask), engine.generate(replace(ask, **change))
    assert other.status.outcome is Outcome.MISS
    assert other.digest != usual.digest


def test_it_can_be_stopped_between_steps(engine, ask):
    watcher = QuietWatcher()
    watcher.stop.set()
    with pytest.raises(GenerationStoppedError):
        engine.runtime.generate_blocking(ask, watcher)
    assert engine.stored() == []


def test_what_it_cannot_do_is_refused_by_name(engine, ask):
    with pytest.raises(RequestError, match="sigmas"):
        engine.generate(replace(ask, sigmas=(1.0, 0.5)))


def test_it_leaves_other_folders_to_others(tmp_path):
    assert zit_diffsynth.zit_open_pipeline(ModelRef(source="x", path=tmp_path)) is None
