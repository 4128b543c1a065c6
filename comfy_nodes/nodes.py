"""The nodes."""

from __future__ import annotations

from concurrent.futures import CancelledError

from zit_ext.errors import GenerationStoppedError
from zit_ext.pipeline import WeightTier
from zit_ext.records import Outcome
from zit_ext.renderers.several import InThisProcess

from . import badges, cache_provider, host, panel
from .convert import to_image, to_requests, to_status
from .describing import LORAS, MODEL, SCHEDULER, VAE, Lora, Model, Scheduler, Vae
from .memo_node import CacheAny
from .missing import told_what_to_do
from .progress import Progress
from .queueing import Queued
from .weights import Preload, Unload

io = host.io


class Extension(host.ComfyExtension):
    """Everything that this pack adds to ComfyUI."""

    async def on_load(self):
        await cache_provider.register()

    async def get_node_list(self):
        panel.mount()  # here, since 0.3.75 calls no on_load
        return [Generate, CacheAny, Model, Lora, Vae, Scheduler, Preload, Unload, Statistics, Queued]


class Generate(io.ComfyNode):
    """Z-Image with weights that stay and results that are kept."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitGenerate",
            display_name="Z-Image (cached)",
            category="zit_ext",
            description="Renders with Z-Image-Turbo; a request seen before comes from disk, bit for bit.",
            search_aliases=["z-image", "zimage", "turbo", "cache"],
            inputs=[
                io.String.Input("prompt", multiline=True, dynamic_prompts=True),
                io.String.Input(
                    "negative_prompt",
                    default="",
                    multiline=True,
                    tooltip="Has an effect only with guidance > 0.",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
                io.Int.Input("width", default=1024, min=16, max=8192, step=16),
                io.Int.Input("height", default=1024, min=16, max=8192, step=16),
                io.Int.Input("steps", default=8, min=1, max=1000, tooltip="Turbo is made for 8."),
                io.Float.Input(
                    "guidance", default=0.0, min=0.0, max=100.0, step=0.1, tooltip="Turbo is made for 0."
                ),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=64, tooltip="Pictures with seeds s, s+1, ..."
                ),
                io.String.Input(
                    "model",
                    default="",
                    tooltip="A diffusers folder or a Hugging Face id; empty: the setting.",
                ),
                io.Combo.Input(
                    "cache",
                    options=["use", "refresh", "bypass", "only"],
                    default="use",
                    tooltip="use: look, and keep. refresh: render and keep. bypass: neither. "
                    "only: look, and stop if nothing is kept.",
                ),
                MODEL.Input("zit_model", optional=True, tooltip="Goes before the text in `model`."),
                LORAS.Input("loras", optional=True, tooltip="From LoRA nodes, in their order."),
                VAE.Input("vae", optional=True, tooltip="Instead of the model's own."),
                SCHEDULER.Input("scheduler", optional=True, tooltip="Instead of the model's own."),
                io.Image.Input(
                    "image", optional=True, tooltip="Image-to-image: what to start from, scaled to the size."
                ),
                io.Float.Input(
                    "strength",
                    default=0.6,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Image-to-image: how much is made anew.",
                ),
            ],
            outputs=[io.Image.Output(), io.String.Output(display_name="status")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, **inputs):
        requests = to_requests(inputs)
        progress = Progress(len(requests))
        try:
            with told_what_to_do(host.engine().settings):
                results = host.engine().generate_many_blocking(requests, progress, progress.interrupted)
        except (CancelledError, GenerationStoppedError):
            host.raise_if_interrupted()  # the host's own way to end a prompt
            raise
        progress.show()
        badges.tell(
            cls.hidden.unique_id,
            hits=sum(each.status.outcome is Outcome.HIT for each in results),
            of=len(results),
            saved_seconds=sum(each.saved_seconds for each in results),
        )
        status = to_status(results)
        badges.say(cls.hidden.unique_id, status.replace("\n", ";\n"))  # pages of the new design join lines
        return io.NodeOutput(to_image(results), status, ui={"text": status.split("\n")})


class Statistics(io.ComfyNode):
    """What the cache did in this session."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitStatistics",
            display_name="Z-Image cache statistics",
            category="zit_ext",
            description="Hits, misses and the seconds of rendering that were saved since ComfyUI started.",
            is_output_node=True,
            inputs=[],
            outputs=[io.String.Output(display_name="statistics")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls):
        return float("nan")  # always asked again

    @classmethod
    def execute(cls):
        counted = host.engine().metrics.snapshot()
        text = (
            f"{counted.requests.get('hit', 0)} hits, {counted.requests.get('miss', 0)} misses, "
            f"{counted.requests.get('bypass', 0)} bypassed, {counted.saved_seconds:.1f} s of rendering saved"
            f"\n{_residents()}"
        )
        badges.say(cls.hidden.unique_id, text)
        return io.NodeOutput(text, ui={"text": [text]})


def _residents() -> str:
    """Return which weights this process holds, one line each."""
    renderer = host.engine().renderer
    if not isinstance(renderer, InThisProcess):
        return "weights are held by the model server"
    held = renderer.holdings()
    lines = [
        f"{model.source}: {model.bytes_in(WeightTier.VRAM) / 1e6:.1f} MB on {held.device}, "
        f"{model.bytes_in(WeightTier.RAM) / 1e6:.1f} MB parked"
        for model in held.models
    ]
    return "\n".join(lines) or "no weights are held"
