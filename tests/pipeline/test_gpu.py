"""On a GPU: the plain pipeline's pixels, parts that move, memory that comes back."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from zit_ext.pipeline import WeightTier
from zit_ext.records import ModelRef
from zit_ext.settings import Settings

pytestmark = [pytest.mark.pipeline, pytest.mark.gpu]


@pytest.fixture
def on_gpu(tiny):
    """Open the tiny model on the GPU, with leases that move parts as the holder does."""
    import torch

    from zit_ext.models.zimage import open_pipeline

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    opened = []

    def open_it(**fields):
        pipeline = open_pipeline(ModelRef(source=str(tiny), path=tiny, **fields), Settings(device="cuda"))
        opened.append(pipeline)

        @contextmanager
        def lease(*parts):
            for part in parts:
                pipeline.move(part, WeightTier.VRAM)
            yield
            for part in parts:
                pipeline.move(part, WeightTier.RAM)

        return pipeline, lease

    yield open_it
    for pipeline in opened:
        pipeline.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_the_gpus_pictures_are_the_plain_pipelines(
    on_gpu, plain, tiny, ask, render, plainly, dtype, guidance, offload
):
    pipeline, lease = on_gpu(dtype=dtype, offload=offload)
    request = ask(guidance=guidance, negative_prompt="blurred", width=128)
    pipe = plain(tiny, dtype).to("cuda")

    assert render(pipeline, request, lease=lease).content == plainly(pipe, request)
    assert render(pipeline, request, lease=lease).content == plainly(pipe, request)


def test_the_number_format_is_the_gpus(on_gpu, ask, render):
    import torch

    pipeline, lease = on_gpu()
    environment = render(pipeline, ask(), lease=lease).environment

    capable = torch.cuda.get_device_capability() >= (8, 0)
    assert environment["resolved"]["dtype"] == ("bfloat16" if capable else "float32")
    assert environment["device"]["name"] == torch.cuda.get_device_name()


def test_parked_parts_leave_nothing_on_the_device(on_gpu, ask, render):
    import torch

    pipeline, lease = on_gpu()
    before = torch.cuda.memory_allocated()

    render(pipeline, ask(), lease=lease)

    # Tables of positions of a few kB stay with the transformer.
    assert torch.cuda.memory_allocated() - before < 1_000_000
    pipeline.close()


def test_noise_may_be_drawn_on_the_gpu(on_gpu, ask, render):
    pipeline, lease = on_gpu()
    on_cpu, on_gpu_too = (
        render(pipeline, ask(generator_device=device), lease=lease).content for device in ("cpu", "cuda")
    )

    assert on_cpu != on_gpu_too


def test_memory_that_really_runs_out_is_told(on_gpu, ask, render):
    import torch

    from zit_ext.errors import OutOfMemoryError

    pipeline, lease = on_gpu()
    torch.cuda.set_per_process_memory_fraction(0.000_1)
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            render(pipeline, ask(width=2048, height=2048, steps=1), lease=lease)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert caught.value.device == "cuda:0"
