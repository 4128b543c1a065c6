"""Nodes for tests: what they do is written into a file that the test reads."""

import logging
import os
import time

import folder_paths
import torch


def _note(words):
    with open(os.environ["ZIT_TEST_LOG"], "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{words}\n")


class Slow:
    """An expensive node: a picture of one grey."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": ("FLOAT", {"default": 0.5}), "seconds": ("FLOAT", {"default": 0.0})},
            "optional": {"image": ("IMAGE",)},
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, value, seconds, image=None):
        _note(f"slow {value}")
        time.sleep(seconds)
        return (torch.full((1, 16, 16, 3), value) if image is None else image * value,)


class Loader:
    """Reads a model file that a combo names."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae_name": (folder_paths.get_filename_list("vae"),)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, vae_name):
        with open(folder_paths.get_full_path("vae", vae_name), "rb") as file:  # noqa: PTH123
            first = file.read(1)[0]
        _note(f"loader {first}")
        return (torch.full((1, 16, 16, 3), first / 256),)


class Tight:
    """Has too little memory the first time, and goes on in another way, as the host's VAE does."""

    ran = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, image):
        Tight.ran += 1
        _note("tight")
        if Tight.ran > 1:
            return (image,)
        logging.warning(
            "Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding."
        )
        return (image * 0.75,)


class Restless:
    """Never the same twice, and says so."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        _note("restless")
        return (torch.rand((1, 16, 16, 3)),)


class Many:
    """A list of pictures of different sizes."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3})}}

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, count):
        _note(f"many {count}")
        return ([torch.full((1, 8 * (index + 1), 8, 3), index / 8) for index in range(count)],)


class Odd:
    """An object that nobody can store."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("ODD",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self):
        _note("odd")
        return (object(),)


class Expands:
    """Becomes a slow node and a Cache (any) while it runs."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 0.5})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, value):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        slow = graph.node("TestSlow", value=value, seconds=0.0)
        memo = graph.node("ZitCacheAny", value=slow.out(0))
        return {"result": (memo.out(0),), "expand": graph.finalize()}


class Note:
    """An output: writes down what arrived, number by number as a digest."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"anything": ("IMAGE,LATENT,MASK,CONDITIONING,AUDIO,ODD,STRING",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, anything):
        return {"ui": {"text": [_shown(anything)]}}


def _shown(value):
    import hashlib

    if isinstance(value, torch.Tensor):
        data = value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else b""
        return f"{value.dtype} {list(value.shape)} {hashlib.sha256(data).hexdigest()[:16]}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_shown(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


NODE_CLASS_MAPPINGS = {
    "TestSlow": Slow,
    "TestLoader": Loader,
    "TestRestless": Restless,
    "TestTight": Tight,
    "TestMany": Many,
    "TestOdd": Odd,
    "TestExpands": Expands,
    "TestNote": Note,
}
