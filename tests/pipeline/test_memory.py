"""Low-memory modes keep the pixels; memory that runs out is told; what is closed is given back."""

from __future__ import annotations

import gc
import weakref

import pytest

from zit_ext.errors import ModelError, OutOfMemoryError
from zit_ext.models import zimage as zimage_room
from zit_ext.models import zimage_devices, zimage_loading, zimage_placement, zimage_rendering
from zit_ext.pipeline import WeightTier
from zit_ext.records import LoraRef, ModelRef
from zit_ext.testing import QuietWatcher

pytestmark = pytest.mark.pipeline


def like(tiny, **fields):
    return ModelRef(source=str(tiny), path=tiny, **fields)


@pytest.fixture
def a_lora(tmp_path):
    from diffusers import ZImagePipeline
    from peft import LoraConfig, get_peft_model_state_dict

    from zit_ext.models.tiny import components

    transformer = components()["transformer"]
    transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    ZImagePipeline.save_lora_weights(
        str(tmp_path), transformer_lora_layers=get_peft_model_state_dict(transformer)
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    return LoraRef(source=str(path), path=path)


@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_low_memory_modes_give_the_same_pixels(open_zimage, zimage, tiny, ask, render, offload):
    pipeline = open_zimage(like(tiny, offload=offload))

    for request in (ask(), ask(guidance=2.0), ask(seed=3)):
        assert render(pipeline, request).content == render(zimage, request).content
        for part in pipeline.parts:
            pipeline.move(part.name, WeightTier.VRAM)
            pipeline.move(part.name, WeightTier.RAM)


@pytest.fixture
def streamed(tiny):
    """The tiny model, passing through its device in groups of layers; here that is RAM to RAM."""
    import diffusers

    if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 39):
        pytest.skip("this diffusers streams to accelerators only")
    model = like(tiny)
    loaded = zimage_loading.load(model, "float32")
    zimage_placement.stream_in_groups(loaded.modules, "cpu")
    assert hooks(loaded.modules)
    pipeline = zimage_room.ZImage(
        model, loaded, device="cpu", dtype="float32", attention="native", refuse_long_prompts=False
    )
    yield pipeline, loaded.modules
    pipeline.close()


def hooks(modules):
    return sum(
        len(module._diffusers_hook.hooks)
        for part in modules.values()
        for module in part.modules()
        if hasattr(module, "_diffusers_hook")
    )


def test_layers_that_stream_in_groups_give_the_same_pixels(streamed, open_zimage, tiny, ask, render, a_lora):
    resident = open_zimage(tiny)
    pipeline, _ = streamed

    for request in (ask(), ask(loras=(a_lora,)), ask(guidance=2.0)):
        assert render(pipeline, request).content == render(resident, request).content


def test_streaming_is_taken_back_without_a_trace(streamed, zimage, ask, render):
    pipeline, modules = streamed

    zimage_placement.stop_streaming(modules)

    assert hooks(modules) == 0
    assert render(pipeline, ask()).content == render(zimage, ask()).content


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
def failing(monkeypatch):
    """Let a stage fail, so many times."""

    def arrange(stage: str, times: int, error: Exception) -> list[str]:
        real = getattr(zimage_rendering, stage)
        failed: list[str] = []

        def stage_or_error(*arguments, **named):
            if len(failed) < times:
                failed.append(stage)
                raise error
            return real(*arguments, **named)

        monkeypatch.setattr(zimage_rendering, stage, stage_or_error)
        return failed

    return arrange


@pytest.fixture
def scarce(failing):
    """Let memory run out in a stage, so many times."""
    import torch

    def arrange(stage: str, times: int) -> list[str]:
        message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full."
        return failing(stage, times, torch.OutOfMemoryError(message))

    return arrange


def test_what_the_libraries_raise_is_ours_at_the_edge(open_zimage, tiny, ask, render, failing, caplog):
    pipeline = open_zimage(tiny)
    failing("denoise", 1, RuntimeError("CUDA error: an illegal memory access was encountered"))

    with pytest.raises(ModelError, match="illegal memory access") as caught:
        render(pipeline, ask())

    assert caught.value.__context__ is None
    assert "illegal memory access" in caplog.text
    assert render(pipeline, ask()).faithful


def test_what_a_watcher_raises_passes_through(open_zimage, tiny, ask, render):
    class Interrupted(Exception):  # noqa: N818 - hosts name theirs like this
        pass

    class Watcher(QuietWatcher):
        def step(self, done: int, total: int) -> None:
            raise Interrupted

    pipeline = open_zimage(tiny)
    expected = render(pipeline, ask()).content

    with pytest.raises(Interrupted):
        render(pipeline, ask(), Watcher())

    assert render(pipeline, ask()).content == expected


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

    pipeline = zimage_room.open_pipeline(like(tiny, offload=offload), Settings(device="cpu"))
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

    pipeline = zimage_room.open_pipeline(
        ModelRef(source="wide", path=tmp_path / "wide"), Settings(device="cpu")
    )
    with torch.no_grad():
        render(pipeline, ask())
    size = sum(part.bytes for part in pipeline.parts)
    held = process.memory_info().rss - before
    pipeline.close()
    kept = process.memory_info().rss - before

    assert size > 100_000_000
    assert held > 0.9 * size
    assert kept < 0.2 * size


def test_a_part_that_was_left_half_way_is_moved_whole():
    import torch

    half = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    half[0].to("meta")  # as far as the move came that failed
    zimage_placement.Placement({"vae": half}, "meta", "none").move("vae", WeightTier.VRAM)
    assert {str(each.device) for each in half.parameters()} == {"meta"}
