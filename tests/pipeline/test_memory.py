"""Low-memory modes keep the pixels; memory that runs out is told; what is closed is given back."""

from __future__ import annotations

import gc
import weakref

import pytest

from zit_ext.errors import OutOfMemoryError
from zit_ext.models import zimage, zimage_devices, zimage_rendering
from zit_ext.models.pipeline import WeightTier
from zit_ext.records import LoraRef, ModelRef

pytestmark = pytest.mark.pipeline


def like(tiny, **fields):
    return ModelRef(source=str(tiny), path=tiny, **fields)


@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_low_memory_modes_give_the_same_pixels(open_zimage, zimage, tiny, ask, render, offload):
    pipeline = open_zimage(like(tiny, offload=offload))

    for request in (ask(), ask(guidance=2.0), ask(seed=3)):
        assert render(pipeline, request).content == render(zimage, request).content
        for part in pipeline.parts:
            pipeline.move(part.name, WeightTier.VRAM)
            pipeline.move(part.name, WeightTier.RAM)


def test_parts_that_stream_in_groups_are_not_leased(open_zimage, tiny, ask, render, leases):
    render(open_zimage(like(tiny, offload="group")), ask(), lease=leases)

    assert leases.asked == [("vae",)]


def test_a_pipeline_in_groups_may_be_opened_again_and_again(open_zimage, zimage, tiny, ask, render):
    for _ in range(2):
        pipeline = open_zimage(like(tiny, offload="group"))
        assert render(pipeline, ask()).content == render(zimage, ask()).content
        pipeline.close()


def test_low_memory_modes_are_like_diffusers_own(plain, tiny, zimage, ask, render, plainly):
    pipe = plain(tiny)
    pipe.enable_model_cpu_offload(device="cpu")

    assert plainly(pipe, ask()) == render(zimage, ask()).content


def test_tiles_are_those_of_the_plain_pipeline(open_zimage, plain, tiny, zimage, ask, render, plainly):
    pipe = plain(tiny)
    pipe.vae.enable_tiling()
    request = ask(width=256, height=128, steps=2)
    tiled = render(open_zimage(like(tiny, vae_tiling=True)), request)

    assert tiled.content == plainly(pipe, request)
    assert tiled.content != render(zimage, request).content
    assert tiled.faithful


@pytest.fixture
def scarce(monkeypatch):
    """Let memory run out in a stage, so many times."""
    import torch

    def arrange(stage: str, times: int) -> list[str]:
        real = getattr(zimage_rendering, stage)
        failed: list[str] = []

        def short_of_memory(*arguments, **named):
            if len(failed) < times:
                failed.append(stage)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full.")
            return real(*arguments, **named)

        monkeypatch.setattr(zimage_rendering, stage, short_of_memory)
        return failed

    return arrange


def test_a_decode_that_runs_out_of_memory_is_done_in_tiles_and_says_so(
    open_zimage, tiny, ask, render, scarce, leases
):
    pipeline = open_zimage(tiny)
    request = ask(width=256, height=128, steps=2)
    expected = render(open_zimage(like(tiny, vae_tiling=True)), request).content
    before = render(pipeline, request)
    scarce("decode", 1)

    rendered = render(pipeline, request, lease=leases)
    after = render(pipeline, request)

    assert rendered.content == expected
    assert not rendered.faithful
    assert any("tiles" in warning for warning in rendered.warnings)
    assert before.faithful
    assert after.faithful
    assert after.content == before.content
    assert not leases.held


@pytest.mark.parametrize(("stage", "times"), [("encode", 1), ("denoise", 1), ("decode", 2)])
def test_memory_that_runs_out_is_told_with_figures_and_the_next_render_is_whole(
    open_zimage, tiny, ask, render, scarce, leases, stage, times
):
    pipeline = open_zimage(tiny)
    failed = scarce(stage, times)

    with pytest.raises(OutOfMemoryError) as caught:
        render(pipeline, ask(), lease=leases)

    assert caught.value.needed == 2 * 1024**3
    assert caught.value.free > 0
    assert caught.value.device == "cpu"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "a kept error would hold on to the memory that it is about"
    assert not leases.held
    assert len(failed) == times
    assert render(pipeline, ask()).faithful


def test_tiles_that_do_not_help_are_an_error(open_zimage, tiny, ask, render, scarce):
    pipeline = open_zimage(like(tiny, vae_tiling=True))
    failed = scarce("decode", 1)

    with pytest.raises(OutOfMemoryError):
        render(pipeline, ask())

    assert len(failed) == 1


def test_memory_that_runs_out_while_weights_move_is_told(open_zimage, tiny, monkeypatch):
    import torch

    pipeline = open_zimage(tiny)

    def full(*_arguments):
        raise torch.OutOfMemoryError("HIP out of memory. Tried to allocate 12.00 MiB.")

    monkeypatch.setattr("zit_ext.models.zimage_placement.Placement.move", full)

    with pytest.raises(OutOfMemoryError) as caught:
        pipeline.move("transformer", WeightTier.VRAM)

    assert caught.value.needed == 12 * 1024**2


@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_a_closed_pipeline_is_gone(tiny, ask, render, tmp_path, offload):
    from zit_ext.settings import Settings

    pipeline = zimage.open_pipeline(like(tiny, offload=offload), Settings(device="cpu"))
    render(pipeline, ask())
    modules = [weakref.ref(module) for module in pipeline._modules.values()]

    pipeline.close()

    assert [module() for module in modules] == [None, None, None]
    del pipeline
    gc.collect()


@pytest.mark.slow
def test_close_gives_the_memory_back_to_the_system(tmp_path, ask, render):
    psutil = pytest.importorskip("psutil")
    import torch
    from diffusers import ZImagePipeline

    from zit_ext.models.tiny import components
    from zit_ext.settings import Settings

    parts = components()
    config = dict(parts["transformer"].config) | {"dim": 768, "n_heads": 24, "n_kv_heads": 24}
    parts["transformer"] = type(parts["transformer"]).from_config(config)
    ZImagePipeline(**parts).save_pretrained(str(tmp_path / "wide"))
    del parts
    zimage_devices.release("cpu")
    process = psutil.Process()
    before = process.memory_info().rss

    pipeline = zimage.open_pipeline(ModelRef(source="wide", path=tmp_path / "wide"), Settings(device="cpu"))
    with torch.no_grad():
        render(pipeline, ask())
    size = sum(part.bytes for part in pipeline.parts)
    held = process.memory_info().rss - before
    pipeline.close()
    kept = process.memory_info().rss - before

    assert size > 100_000_000
    assert held > 0.9 * size
    assert kept < 0.2 * size


def test_a_lora_goes_with_the_low_memory_modes(open_zimage, zimage, tiny, ask, render, tmp_path):
    import torch
    from diffusers import ZImagePipeline
    from peft import LoraConfig, get_peft_model_state_dict

    from zit_ext.models.tiny import components

    transformer = components()["transformer"]
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    ZImagePipeline.save_lora_weights(
        str(tmp_path), transformer_lora_layers=get_peft_model_state_dict(transformer)
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    patched, bare = ask(loras=(LoraRef(source=str(path), path=path),)), ask()
    expected = [render(open_zimage(tiny), request).content for request in (patched, bare)]
    assert torch.is_grad_enabled()

    for offload in ("model", "group"):
        pipeline = open_zimage(like(tiny, offload=offload))
        for _ in range(2):
            assert [render(pipeline, request).content for request in (patched, bare)] == expected
