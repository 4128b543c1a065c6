"""Nodes that load weights ahead of time, and let go of them."""

from __future__ import annotations

from concurrent.futures import CancelledError

from zit_ext import ModelRef

from . import badges, host
from .describing import ANYTHING, MODEL
from .missing import told_what_to_do

io = host.io


class Preload(io.ComfyNode):
    """Weights ready before the first picture."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitPreload",
            display_name="Z-Image preload",
            category="zit_ext",
            description="Loads the weights now, so that the first picture does not wait for them.",
            search_aliases=["load", "warm", "z-image"],
            is_output_node=True,
            inputs=[MODEL.Input("zit_model", optional=True, tooltip="None: the model of the settings.")],
            outputs=[MODEL.Output(display_name="model"), io.String.Output(display_name="status")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return float("nan")  # they may have left meanwhile

    @classmethod
    def execute(cls, zit_model=None):
        model = zit_model or ModelRef()
        try:
            with told_what_to_do(host.engine().settings):
                host.engine().preload_blocking(model, host.interrupted)
        except CancelledError:
            host.raise_if_interrupted()
            raise
        status = "the weights are here"
        badges.say(cls.hidden.unique_id, status)
        return io.NodeOutput(model, status, ui={"text": [status]})


class Unload(io.ComfyNode):
    """Room for others."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            node_id="ZitUnload",
            display_name="Z-Image unload",
            category="zit_ext",
            description=(
                "Lets go of Z-Image's weights, of one model or of all. Link anything through it to say when."
            ),
            search_aliases=["free", "vram", "unload", "z-image"],
            is_output_node=True,
            inputs=[
                ANYTHING.Input(
                    "after", optional=True, tooltip="Unloads after this is there, and hands it on."
                ),
                MODEL.Input("zit_model", optional=True, tooltip="None: all of them."),
            ],
            outputs=[ANYTHING.Output(display_name="after"), io.String.Output(display_name="status")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return float("nan")

    @classmethod
    def execute(cls, after=None, zit_model=None):
        count = host.engine().unload_blocking(zit_model)
        status = "1 model unloaded" if count == 1 else f"{count} models unloaded"
        badges.say(cls.hidden.unique_id, status)
        return io.NodeOutput(after, status, ui={"text": [status]})
