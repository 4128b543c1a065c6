"""The stages of a render, on diffusers' own pipeline classes: encode, denoise, decode.

A stage is what the plain pipeline does between two of its parts, so that only those parts need to be
on the device. Each stage builds its own pipeline object over the shared modules: the object and its
scheduler keep state while they run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..codecs import Pixels
from ..errors import GenerationStoppedError, ModelError, RequestError
from ..pipeline import Watcher
from ..records import InputImage, Request
from .zimage_previews import PreviewSteps
from .zimage_schedulers import steps_to_ask

_MAX_IMAGE = 8192 * 8192  # pixels


@dataclass(frozen=True, slots=True)
class Task:
    """One render: the request, and what it keeps state in."""

    request: Request
    scheduler: Any
    generator: Any
    picture: Any | None
    """What image-to-image starts from."""
    watcher: Watcher
    previews: PreviewSteps


def text_pipe(tokenizer: Any, text_encoder: Any) -> Any:
    """Return a pipeline that can encode prompts and nothing else."""
    from diffusers import ZImagePipeline

    return ZImagePipeline(
        scheduler=None, vae=None, text_encoder=text_encoder, tokenizer=tokenizer, transformer=None
    )


def encode(pipe: Any, prompt: str, max_sequence_length: int, device: str) -> Any:
    """Return the prompt's embedding on the device, as the pipeline itself would make it."""
    embeddings, _ = pipe.encode_prompt(
        prompt=[prompt],
        device=device,
        do_classifier_free_guidance=False,
        max_sequence_length=max_sequence_length,
    )
    return embeddings[0]


def denoising_pipe(*, transformer: Any, vae: Any, scheduler: Any, from_image: bool) -> Any:
    """Return a pipeline that turns embeddings into latents. Only image-to-image holds on to the VAE."""
    from diffusers import ZImageImg2ImgPipeline, ZImagePipeline

    kind = ZImageImg2ImgPipeline if from_image else ZImagePipeline
    pipe = kind(
        scheduler=scheduler,
        vae=vae if from_image else None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    pipe.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def denoise(pipe: Any, task: Task, embeddings: Mapping[str, Any]) -> Any:
    """Return the finished latents. The watcher is told of each step.

    Raises GenerationStoppedError between steps when the watcher wants it, and ModelError for latents
    that are no numbers.
    """
    import diffusers
    import torch

    request, watcher = task.request, task.watcher
    steps = steps_to_ask(request.steps, diffusers.__version__)
    without_effect = steps - request.steps if request.sigmas is None else 0

    def after_step(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        done, total = index + 1, pipe.num_timesteps - without_effect
        if done > total:
            return {}
        # Image-to-image begins in the middle of the schedule.
        now = len(pipe.scheduler.timesteps) - pipe.num_timesteps + done
        task.previews.step(done, total, tensors["latents"], pipe.scheduler.sigmas[now - 1 : now + 1])
        watcher.step(done, total)
        stop_if_wanted(watcher)
        return {}

    source = {} if task.picture is None else {"image": task.picture, "strength": request.strength}
    (latents,) = pipe(
        prompt=None,
        prompt_embeds=[embeddings["prompt"]],
        negative_prompt_embeds=[embeddings["negative_prompt"]] if request.guidance > 0 else None,
        width=request.width,
        height=request.height,
        num_inference_steps=steps,
        sigmas=None if request.sigmas is None else list(request.sigmas),
        guidance_scale=request.guidance,
        cfg_normalization=request.cfg_normalization,
        cfg_truncation=request.cfg_truncation,
        max_sequence_length=request.max_sequence_length,
        generator=task.generator,
        output_type="latent",
        return_dict=False,
        callback_on_step_end=after_step,
        **source,
    )
    if not bool(torch.isfinite(latents).all()):
        raise _not_a_picture(request)
    return latents


def decode(processor: Any, vae: Any, latents: Any, request: Request) -> Pixels:
    """Return the latents' picture, as the pipeline makes it for `output_type="pil"`."""
    import torch

    typed = latents.to(vae.dtype)
    decoded = vae.decode(typed / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]
    if not bool(torch.isfinite(decoded).all()):
        raise _not_a_picture(request)
    (picture,) = processor.postprocess(decoded, output_type="pil")
    return Pixels(picture.width, picture.height, len(picture.getbands()), picture.tobytes())


def generator_for(request: Request, device: str) -> Any:
    """Return the source of one picture's noise. Raises RequestError where its device is not ours."""
    import torch

    where = request.generator_device
    if where != "cpu" and where != device.split(":")[0]:
        raise RequestError("generator_device", where, f"the model is on {device}: choose cpu, the default")
    return torch.Generator("cpu" if where == "cpu" else device).manual_seed(request.seed)


def input_picture(image: InputImage, width: int, height: int) -> Any:
    """Return the picture to start from, upright, RGB and of the size that is asked for.

    Raises RequestError for bytes that are no PNG, JPEG or WebP.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(image.data), formats=("PNG", "JPEG", "WEBP")) as opened:
            if opened.width * opened.height > _MAX_IMAGE:
                raise RequestError(
                    "image", f"{opened.width}x{opened.height}", "give a picture of at most 8192x8192"
                )
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except RequestError:
        raise
    except Exception as error:
        # Pillow's decoders raise what they like for bytes that they cannot read.
        raise RequestError(
            "image", f"{len(image.data)} bytes", f"give a PNG, JPEG or WebP file ({error})"
        ) from error
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture


def stop_if_wanted(watcher: Watcher) -> None:
    """Raise GenerationStoppedError if the watcher wants the render to end."""
    if watcher.wants_stop():
        raise GenerationStoppedError("the generation was stopped before it had a picture")


def _not_a_picture(request: Request) -> ModelError:
    return ModelError(
        f"the model gave no numbers (NaN or infinity) for this request (dtype {request.model.dtype}, "
        f"guidance {request.guidance}, scheduler {dict(request.scheduler.config)}); "
        "use dtype bfloat16 or float32, and a smaller guidance or LoRA strength"
    )
