"""A Z-Image model, opened: `Pipeline` on the real classes of diffusers. The torch room's door.

The modules are shared by all renders; everything that keeps state while it runs is made anew for
each. A picture is, to the bit, what `ZImagePipeline` (or its image-to-image sibling) gives for the
same arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Any

from ..codecs import PNG, Pixels
from ..errors import ModelError, OutOfMemoryError, RequestError
from ..fingerprint import canonical_bytes
from ..pipeline import Lease, Part, Pipeline, Rendered, Watcher, WeightTier, load_device
from ..records import ModelRef, Request
from ..settings import Settings
from . import (
    torch_environment,
    zimage_devices,
    zimage_loading,
    zimage_rendering,
    zimage_schedulers,
)
from .zimage_checkpoints import TEXT_ENCODER, TRANSFORMER, VAE
from .zimage_loading import Loaded
from .zimage_loras import LoraPatches
from .zimage_placement import Placement
from .zimage_previews import LatentColours, PreviewSteps
from .zimage_prompts import Embedding, PromptMemo, overflow
from .zimage_rendering import Task

TURNED = "torch was set otherwise while the picture was rendered: it is of no one environment"
TILED = "the picture was decoded in tiles, because memory ran out: its pixels differ a little"


def open_pipeline(model: ModelRef, settings: Settings | None = None) -> ZImage:
    """Return the model's pipeline, its weights in RAM. Of the settings, `device` and `long_prompts` count.

    Where the weights are is in the reference: its `path`, filled in by the resolver. Raises
    ModelError, ModelMissingError, RequestError or SettingError, each saying what to do.
    """
    settings = settings or Settings()
    device = zimage_devices.resolve_device(load_device.get() or settings.device)
    dtype = zimage_devices.resolve_dtype(model.dtype, device)
    attention = zimage_devices.resolve_attention(model.attention)
    with zimage_devices.plain_torch(device):
        loaded = zimage_loading.load(model, dtype)
        with zimage_loading.building:
            zimage_devices.set_attention(loaded.modules[TRANSFORMER], attention)
        return ZImage(
            model,
            loaded,
            device=device,
            dtype=dtype,
            attention=attention,
            refuse_long_prompts=settings.long_prompts == "refuse",
        )


class ZImage:
    """One set of weights, ready to render. Every method is called on the device's own thread."""

    def __init__(
        self,
        model: ModelRef,
        loaded: Loaded,
        *,
        device: str,
        dtype: str,
        attention: str,
        refuse_long_prompts: bool,
    ) -> None:
        from diffusers.image_processor import VaeImageProcessor

        self._modules = dict(loaded.modules)
        self._tokenizer = loaded.tokenizer
        self._scheduler = loaded.scheduler
        self._device = device
        self._tiling = model.vae_tiling
        self._refuse_long_prompts = refuse_long_prompts
        self._resolved = {
            "device": device.split(":")[0],
            "dtype": dtype,
            "attention": attention,
            "offload": model.offload,
            "vae_tiling": model.vae_tiling,
            "pipeline": "diffusers.ZImagePipeline",
        }
        identities = {**loaded.identities}
        identities[TRANSFORMER] += f":{attention}"
        self._parts = tuple(
            Part(name, zimage_devices.measured_bytes(module), identities[name])
            for name, module in self._modules.items()
        )
        self._colours = LatentColours(self._modules[VAE])
        scale = 2 ** (len(self._modules[VAE].config.block_out_channels) - 1)
        self._processor = VaeImageProcessor(vae_scale_factor=scale * 2)
        self._placement = Placement(self._modules, device, model.offload)
        self._loras = LoraPatches()
        self._memo = PromptMemo()

    @property
    def parts(self) -> Sequence[Part]:
        """Text encoder, transformer and VAE, all in RAM when the pipeline is opened."""
        return self._parts

    def move(self, part: str, tier: WeightTier) -> None:
        """Move one part between RAM and VRAM; on the CPU, both are the same place."""
        with zimage_devices.plain_torch(self._device):
            zimage_devices.guarded(lambda: self._placement.move(part, tier), self._device)
        if tier is not WeightTier.VRAM:
            zimage_devices.empty_cache(self._device)

    def adopt(self, part: str, other: Pipeline) -> bool:
        """Use the other pipeline's text encoder or VAE, of equal identity, and let go of the own one.

        False for the transformer, which LoRAs patch, and for low-memory modes, which hook and move
        weights by themselves.
        """
        if not isinstance(other, ZImage) or part not in (TEXT_ENCODER, VAE):
            return False
        plain = all(each._resolved["offload"] == "none" and each._modules for each in (self, other))
        mine, theirs = (
            next(found.identity for found in each.parts if found.name == part) for each in (self, other)
        )
        if not plain or mine != theirs or self._device != other._device:
            return False
        self._modules[part] = other._modules[part]
        zimage_devices.release(self._device)
        return True

    def prompt_overflow(self, request: Request) -> str | None:
        """Return the end of the prompt that the model would not read, or None if it reads all of it."""
        return overflow(self._tokenizer, request.prompt, request.max_sequence_length)

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        """Return the picture of one request.

        Raises GenerationStoppedError when the watcher wants it, RequestError for what the model
        cannot do, and OutOfMemoryError where even tiles do not help.
        """
        if not self._modules:
            raise ModelError("the pipeline is closed")
        clock = _Stopwatch()
        with zimage_devices.plain_torch(self._device):
            task = self._prepare(request, watcher)
            flags = torch_environment.live_flags()
            embeddings = self._encode(request, lease, clock)
            zimage_rendering.stop_if_wanted(watcher)
            latents = self._denoise(task, embeddings, lease, clock)
            pixels, fallback = self._decode(request, latents, lease, clock)
            environment = torch_environment.record(self._resolved, self._device)
        if environment["flags"] != flags:
            fallback = (*fallback, TURNED)
        warnings = [_cut_words(field, each.cut) for field, each in embeddings.items() if each.cut]
        return Rendered(
            pixels,
            clock.seconds,
            environment,
            faithful=not fallback,
            warnings=(*warnings, *fallback),
        )

    def close(self) -> None:
        """Let go of all weights; the memory is free afterwards."""
        if not self._modules:
            return
        self._loras.clear(self._modules[TRANSFORMER])
        self._placement.clean_up()
        self._memo.clear()
        self._modules.clear()
        zimage_devices.release(self._device)

    def _prepare(self, request: Request, watcher: Watcher) -> Task:
        """Find out what is wrong with the request before any weights move."""
        if request.media_type != PNG:
            raise RequestError("media_type", request.media_type, f"this model paints; ask for {PNG}")
        picture = None
        if request.image is not None:
            picture = zimage_rendering.input_picture(request.image, request.width, request.height)
        return Task(
            request=request,
            scheduler=zimage_schedulers.for_render(self._scheduler, request.scheduler),
            generator=zimage_rendering.generator_for(request, self._device),
            picture=picture,
            watcher=watcher,
            previews=PreviewSteps(self._colours, watcher.preview),
        )

    def _encode(self, request: Request, lease: Lease, clock: _Stopwatch) -> dict[str, Embedding]:
        """Return the embeddings of the request's prompts, in RAM, by field."""
        texts = {"prompt": request.prompt}
        if request.guidance > 0:
            texts["negative_prompt"] = request.negative_prompt
        limit = request.max_sequence_length
        flags = canonical_bytes([request.context, torch_environment.live_flags()])
        found = {field: self._memo.find((text, limit, flags)) for field, text in texts.items()}
        missing = {field: text for field, text in texts.items() if found[field] is None}
        cuts = {field: overflow(self._tokenizer, text, limit) for field, text in missing.items()}
        for field, cut in cuts.items():
            if cut is not None and self._refuse_long_prompts:
                raise RequestError(field, texts[field], _too_long(cut, limit))
        if missing:

            def encode() -> None:
                pipe = zimage_rendering.text_pipe(self._tokenizer, self._modules[TEXT_ENCODER])
                for field, text in missing.items():
                    tensor = zimage_rendering.encode(pipe, text, limit, self._device)
                    found[field] = embedding = Embedding(tensor.to("cpu", copy=True), cuts[field])
                    self._memo.keep((text, limit, flags), embedding)

            with self._stage(lease, clock, TEXT_ENCODER):
                zimage_devices.guarded(encode, self._device)
        return {field: embedding for field, embedding in found.items() if embedding is not None}

    def _denoise(self, task: Task, embeddings: dict[str, Embedding], lease: Lease, clock: _Stopwatch) -> Any:
        """Return the finished latents. Image-to-image needs the VAE too, to read its picture."""
        parts = (TRANSFORMER,) if task.picture is None else (TRANSFORMER, VAE)

        def denoise() -> Any:
            pipe = zimage_rendering.denoising_pipe(
                transformer=self._modules[TRANSFORMER],
                vae=self._modules[VAE],
                scheduler=task.scheduler,
                from_image=task.picture is not None,
            )
            self._loras.apply(pipe, task.request.loras)
            self._set_tiling(self._tiling)
            on_device = {field: each.tensor.to(self._device) for field, each in embeddings.items()}
            return zimage_rendering.denoise(pipe, task, on_device)

        with self._stage(lease, clock, *parts):
            return zimage_devices.guarded(denoise, self._device)

    def _decode(
        self, request: Request, latents: Any, lease: Lease, clock: _Stopwatch
    ) -> tuple[Pixels, tuple[str, ...]]:
        """Return the picture, and what to tell if it is not the one that was asked for."""

        def decode() -> Pixels:
            return zimage_rendering.decode(self._processor, self._modules[VAE], latents, request)

        with self._stage(lease, clock, VAE):
            self._set_tiling(self._tiling)
            try:
                return zimage_devices.guarded(decode, self._device), ()
            except OutOfMemoryError:
                if self._tiling:
                    raise
            # Outside of the handler: the error no longer holds on to the memory that it is about.
            zimage_devices.release(self._device)
            self._set_tiling(True)
            return zimage_devices.guarded(decode, self._device), (TILED,)

    @contextmanager
    def _stage(self, lease: Lease, clock: _Stopwatch, *parts: str) -> Iterator[None]:
        """Have the parts where they compute, and count the time. What streams in groups needs no lease."""
        leased = [part for part in parts if not self._placement.streams(part)]
        with lease(*leased) if leased else nullcontext(), clock, self._placement.on_device(*parts):
            yield

    def _set_tiling(self, on: bool) -> None:
        vae = self._modules[VAE]
        if on:
            vae.enable_tiling()
        else:
            vae.disable_tiling()


class _Stopwatch:
    """Seconds spent rendering: each stage from when its parts are there. Waiting and moving do not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_error: object) -> None:
        self.seconds += perf_counter() - self._started


def _too_long(cut: str, limit: int) -> str:
    return f"it is longer than the {limit} tokens that are read; shorten it by {_shown(cut)}"


def _cut_words(field: str, cut: str | None) -> str:
    return f"the end of the {field.replace('_', ' ')} was not read: {_shown(cut or '')}"


def _shown(text: str) -> str:
    short = text if len(text) <= 200 else text[:197] + "..."
    return repr(short)
