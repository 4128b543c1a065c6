"""Runs inside a checkout of ComfyUI: its memory manager and our holder compete for one small device.

The device is a number: both sides are told what is free, and count what they hold. Prints what happened.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parents[2])]
sys.argv = ["main.py", "--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as manager  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402

from comfy_nodes.memory import Manners  # noqa: E402
from zit_ext import ModelRef, Request, Settings  # noqa: E402
from zit_ext.renderers.local import LocalRenderer  # noqa: E402
from zit_ext.testing import FakePipeline, QuietWatcher  # noqa: E402

BUDGET = 10_000_000_000
DEVICE = torch.device("meta")


class Theirs(ModelPatcher):
    """A model of the host's."""

    def __init__(self, size: int) -> None:
        super().__init__(torch.nn.Module(), DEVICE, torch.device("cpu"))
        self.bytes, self.here = size, 0

    def is_dynamic(self):
        return False

    def model_size(self):
        return self.bytes

    def loaded_size(self):
        return self.here

    def current_loaded_device(self):
        return DEVICE if self.here else self.offload_device

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        self.here = self.bytes
        return self.bytes

    def partially_unload(self, device_to, memory_to_free=0, force_patch_weights=False):
        return 0

    def detach(self, unpatch_all=True):
        if unpatch_all:
            self.here = 0
        return self.model


theirs = [Theirs(6_000_000_000), Theirs(7_000_000_000)]
told: list[dict[str, int]] = []


def ours() -> int:
    return renderer.holdings().vram_bytes


def free(*_args, **options):
    left = BUDGET - ours() - sum(each.here for each in theirs)
    return (left, left) if options.get("torch_free_too") else left


def note(what: str) -> None:
    told.append({"what": what, "ours": ours(), "theirs": [each.here for each in theirs], "free": free()})


manager.get_free_memory = free
manager.get_torch_device = lambda: DEVICE
manager.minimum_inference_memory = lambda: 500_000_000
manager.extra_reserved_memory = lambda: 0
manager.soft_empty_cache = lambda *_: None

manners = Manners()
renderer = LocalRenderer(
    Settings(device="fake", keep_alive=-1.0, ram_keep_alive=-1.0),
    open_pipeline=lambda model: FakePipeline(
        sizes={"text_encoder": 4_000_000_000, "transformer": 5_000_000_000, "vae": 200_000_000}
    ),
    make_room=lambda wanted, device: manners.make_room(renderer, wanted, device),
    free_memory=free,
)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def render() -> None:
    request = Request(prompt="a", seed=1, width=64, height=64, model=ModelRef(source="m", identity="m"))
    asyncio.run_coroutine_threadsafe(renderer.render(request, QuietWatcher()), loop).result(60)


manager.load_models_gpu([theirs[0]])
note("theirs alone")
render()
note("we rendered")
render()
note("we rendered again")
manager.load_models_gpu([theirs[1]])
note("they needed room")
render()
note("we rendered after that")
manager.unload_all_models()
note("unload all")
asyncio.run_coroutine_threadsafe(renderer.close(), loop).result(60)
print("TOLD " + json.dumps(told))
