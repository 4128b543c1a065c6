"""Z-Image rendered by DiffSynth-Studio's own ZImagePipeline instead of diffusers'. Set ZIT_DIFFSYNTH=1.

The same weights, prompt and seed give another picture there: DiffSynth draws its noise in bfloat16, and
turns guidance into another formula. So the pipeline is a field: its pictures and diffusers' never share
a key. On for the whole life of a process, and for every Z-Image folder in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

from zit_ext import ModelRef, Pixels, Request, hookimpl
from zit_ext.errors import GenerationStoppedError, RequestError
from zit_ext.pipeline import Lease, Part, Rendered, Watcher, WeightTier

fields_version = 1
touches = ("image/*",)

ON = os.environ.get("ZIT_DIFFSYNTH", "") not in ("", "0")
NAME = "diffsynth.ZImagePipeline"
LAYOUT = ("transformer", "text_encoder", "vae")
"""Folders of Z-Image's weights in the layout of diffusers, as the official ones come."""


@hookimpl
def zit_fingerprint_fields(request: Request) -> dict[str, str]:
    return {"pipeline": NAME} if ON else {}


@hookimpl
def zit_open_pipeline(model: ModelRef) -> DiffSynth | None:
    folder = model.path
    if not ON or folder is None or not all((folder / each).is_dir() for each in LAYOUT):
        return None
    if model.text_encoder or model.vae or model.offload != "none" or model.vae_tiling:
        raise RequestError("model", model.source, "DiffSynth renders the folder's own parts, held whole")
    return DiffSynth(model, folder)


class DiffSynth:
    """DiffSynth's pipeline, opened. It moves its latents among its models itself: one stage leases all."""

    def __init__(self, model: ModelRef, folder: Path) -> None:
        import torch
        from diffsynth.pipelines.z_image import ModelConfig, ZImagePipeline

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = "bfloat16" if model.dtype == "auto" else model.dtype
        weights = [sorted(str(file) for file in (folder / each).glob("*.safetensors")) for each in LAYOUT]
        with redirect_stdout(StringIO()):  # it tells what it loads
            self._pipe: Any = ZImagePipeline.from_pretrained(
                torch_dtype=getattr(torch, self._dtype),
                device="cpu",
                model_configs=[ModelConfig(path=files, skip_download=True) for files in weights],
                tokenizer_config=ModelConfig(path=str(folder / "tokenizer"), skip_download=True),
            )
        modules = {
            "text_encoder": (self._pipe.text_encoder,),
            "transformer": (self._pipe.dit,),
            "vae": (self._pipe.vae_decoder, self._pipe.vae_encoder),
        }
        self._modules = {
            part: [each for each in found if each is not None] for part, found in modules.items()
        }
        self._parts = tuple(
            Part(part, sum(_bytes(each) for each in found), f"{NAME}:{self._dtype}:{model.identity}:{part}")
            for part, found in self._modules.items()
        )

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    def move(self, part: str, tier: WeightTier) -> None:
        for module in self._modules[part]:
            module.to(self._device if tier is WeightTier.VRAM else "cpu")

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        from zit_ext.models import torch_environment

        _refuse_what_it_cannot(request)

        def steps(timesteps: Iterable[Any]) -> Iterator[Any]:
            total = len(timesteps)  # type: ignore[arg-type]
            for done, timestep in enumerate(timesteps):
                if watcher.wants_stop():
                    raise GenerationStoppedError("the generation was stopped")
                yield timestep
                watcher.step(done + 1, total)

        with lease(*self._modules):
            started = time.perf_counter()
            self._pipe.device = self._device
            picture = self._pipe(
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                cfg_scale=1.0 + max(0.0, request.guidance),
                width=request.width,
                height=request.height,
                seed=request.seed,
                rand_device=request.generator_device,
                num_inference_steps=request.steps,
                progress_bar_cmd=steps,
            ).convert("RGB")
            seconds = time.perf_counter() - started
        resolved = {"pipeline": NAME, "diffsynth": version("diffsynth"), "dtype": self._dtype}
        environment = torch_environment.record(resolved, self._device)
        return Rendered(Pixels(*picture.size, 3, picture.tobytes()), seconds, environment)

    def close(self) -> None:
        self._pipe = None
        self._modules = {}


def _refuse_what_it_cannot(request: Request) -> None:
    usual = Request(prompt="", seed=0)
    for field in ("loras", "image", "sigmas", "scheduler", "max_sequence_length", "cfg_normalization"):
        if getattr(request, field) != getattr(usual, field):
            raise RequestError(field, getattr(request, field), "leave it out: this pipeline does not know it")


def _bytes(module: Any) -> int:
    return sum(each.numel() * each.element_size() for each in module.parameters())
