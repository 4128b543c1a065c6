"""The holder with pipelines of torch and diffusers, on the CPU, with tiny weights."""

import asyncio
import gc
import weakref

import pytest

from tests.holder.shelf import quiet
from zit_ext.pipeline import WeightTier
from zit_ext.records import ModelRef
from zit_ext.renderers.local import LocalRenderer
from zit_ext.settings import Settings
from zit_ext.testing import make_request

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    from zit_ext.models import tiny

    root = tmp_path_factory.mktemp("weights")
    return [tiny.build(root / name) for name in "abc"]


@pytest.fixture
async def renderer(tmp_path):
    from zit_ext.models import zimage

    opened = []

    def open_pipeline(model):
        pipeline = zimage.open_pipeline(model, settings)
        opened.append(weakref.ref(pipeline))
        return pipeline

    settings = Settings(cache_dir=tmp_path, device="cpu", max_models=1)
    renderer = LocalRenderer(settings, open_pipeline=open_pipeline, make_room=lambda _bytes, _device: 0)
    renderer.opened = opened
    yield renderer
    await renderer.close()


def ask(folder, **changes):
    model = ModelRef(source=str(folder), path=folder, identity=str(folder))
    return make_request(model=model, width=64, height=64, steps=2, **changes)


async def test_switches_give_the_same_pictures_and_hold_one_model_at_a_time(renderer, folders):
    first = [(await renderer.render(ask(folder), quiet())).content for folder in folders]
    for _ in range(3):
        again = [(await renderer.render(ask(folder), quiet())).content for folder in folders]
        assert again == first
    held = renderer.holdings()
    assert (held.loads, len(held.models), held.device) == (12, 1, "cpu")
    assert {part.name for part in held.models[0].parts} == {"text_encoder", "transformer", "vae"}
    assert all(part.bytes > 0 and part.tier is WeightTier.VRAM for part in held.models[0].parts)
    gc.collect()
    assert sum(ref() is not None for ref in renderer.opened) == 1


async def test_many_at_once_are_the_pictures_that_they_are_alone(renderer, folders):
    requests = [ask(folders[0], seed=seed) for seed in range(6)]
    alone = [(await renderer.render(request, quiet())).content for request in requests]
    together = await asyncio.gather(*(renderer.render(request, quiet()) for request in requests))
    assert [rendered.content for rendered in together] == alone
    assert renderer.holdings().loads == 1


async def test_after_unloading_nothing_of_torch_is_left(renderer, folders):
    await renderer.render(ask(folders[0]), quiet())
    assert await renderer.unload_all() == 1
    gc.collect()
    assert [ref() for ref in renderer.opened] == [None]
