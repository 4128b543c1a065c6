"""Nodes that only describe: a model, LoRAs, a VAE, a scheduler. Nothing is loaded until a miss.

A file that was replaced under its name is another one: `fingerprint_inputs` tells the host, which would
otherwise hand on what it remembers.
"""

from __future__ import annotations

from zit_ext import FileRef, LoraRef, ModelRef
from zit_ext.records import SchedulerRef

from . import host

io = host.io

MODEL = io.Custom("ZIT_MODEL")
LORAS = io.Custom("ZIT_LORAS")
VAE = io.Custom("ZIT_VAE")
SCHEDULER = io.Custom("ZIT_SCHEDULER")

NONE = "(by name)"


class _Anything(str):
    """The type that fits every other; the host compares types with `!=`."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


ANYTHING = io.Custom(_Anything("*"))


class Model(io.ComfyNode):
    """Which weights, and how they are put to use."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitModel",
            display_name="Z-Image model",
            category="zit_ext",
            description="Names the weights. Nothing is loaded until a picture has to be rendered.",
            search_aliases=["z-image", "zimage", "diffusers", "loader"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[NONE, *host.model_names("diffusion_models")],
                    default=NONE,
                    tooltip="A single file of ComfyUI's own model folder.",
                ),
                io.String.Input(
                    "source",
                    default="",
                    tooltip="A diffusers folder or a Hugging Face id; empty: the setting. "
                    "Counts where no file is chosen.",
                ),
                io.Combo.Input("dtype", options=["auto", "bfloat16", "float16", "float32"], default="auto"),
                io.Combo.Input(
                    "text_encoder",
                    options=[NONE, *host.model_names("text_encoders")],
                    default=NONE,
                    tooltip="Instead of the model's own, such as qwen_3_4b.",
                ),
                io.Combo.Input(
                    "offload",
                    options=["none", "model", "group"],
                    default="none",
                    tooltip="Low-memory modes: weights wait in RAM between stages or layers.",
                ),
                io.Boolean.Input(
                    "vae_tiling", default=False, tooltip="Decode in tiles: less memory, other pixels."
                ),
            ],
            outputs=[MODEL.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, file, text_encoder, **others):
        return host.file_mark("diffusion_models", file) + host.file_mark("text_encoders", text_encoder)

    @classmethod
    def execute(cls, file, source, dtype, text_encoder, offload, vae_tiling):
        encoder = None if text_encoder == NONE else host.model_path("text_encoders", text_encoder)
        model = ModelRef(
            source=source.strip() if file == NONE else host.model_path("diffusion_models", file),
            dtype=dtype,
            text_encoder=None if encoder is None else FileRef(source=encoder),
            offload=offload,
            vae_tiling=vae_tiling,
        )
        return io.NodeOutput(model)


class Lora(io.ComfyNode):
    """One LoRA more."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitLora",
            display_name="Z-Image LoRA",
            category="zit_ext",
            description="Adds a LoRA to the stack. Strength 0 is as if it were not there.",
            search_aliases=["lora", "z-image"],
            inputs=[
                io.Combo.Input("lora", options=host.model_names("loras")),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.05),
                LORAS.Input("loras", optional=True, tooltip="The stack so far."),
            ],
            outputs=[LORAS.Output(display_name="loras")],
        )

    @classmethod
    def fingerprint_inputs(cls, lora, **others):
        return host.file_mark("loras", lora)

    @classmethod
    def execute(cls, lora, strength, loras=()):
        added = LoraRef(source=host.model_path("loras", lora), strength=strength)
        return io.NodeOutput((*(loras or ()), added))


class Vae(io.ComfyNode):
    """Another VAE than the model's own."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitVae",
            display_name="Z-Image VAE",
            category="zit_ext",
            description="Names a VAE to use instead of the model's own.",
            search_aliases=["vae", "z-image"],
            inputs=[io.Combo.Input("vae", options=host.model_names("vae"))],
            outputs=[VAE.Output(display_name="vae")],
        )

    @classmethod
    def fingerprint_inputs(cls, vae):
        return host.file_mark("vae", vae)

    @classmethod
    def execute(cls, vae):
        return io.NodeOutput(FileRef(source=host.model_path("vae", vae)))


class Scheduler(io.ComfyNode):
    """How the noise falls from step to step."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitScheduler",
            display_name="Z-Image scheduler",
            category="zit_ext",
            description=(
                "Changes the model's own scheduler. Z-Image's pipeline runs FlowMatchEulerDiscrete; others "
                "stop in mid-render, so they are not offered."
            ),
            search_aliases=["scheduler", "shift", "sigmas", "z-image"],
            inputs=[
                io.Float.Input(
                    "shift", default=3.0, min=0.01, max=100.0, step=0.05, tooltip="Turbo is made for 3."
                ),
                io.Combo.Input(
                    "sigmas",
                    options=["plain", "karras", "exponential", "beta"],
                    default="plain",
                    tooltip="How the steps are spread. Turbo is made for plain; beta needs scipy.",
                ),
            ],
            outputs=[SCHEDULER.Output(display_name="scheduler")],
        )

    @classmethod
    def execute(cls, shift, sigmas):
        config = {"shift": shift}
        if sigmas != "plain":
            config[f"use_{sigmas}_sigmas"] = True
        return io.NodeOutput(SchedulerRef(config=config))
