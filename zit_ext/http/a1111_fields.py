"""A1111's fields to ours, and our answers to its infotext. Pure.

What a picture of ours cannot have (an upscaling pass, a mask, a script) is refused by name: a client
that asked for it must not get something else in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import RequestError
from ..records import Request

SAMPLER = "Euler"
SAMPLERS = frozenset({"", "euler", "euler a", "k_euler", "automatic", "flow match euler"})
"""Names, in lower case, under which Z-Image's one sampler is asked for. Clients send "Euler a" by default."""

_LORA = re.compile(r"<lora:([^:<>]+)(?::(-?\d+(?:\.\d*)?|-?\.\d+))?>")

_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)
"""What a webui would take for weights that are added."""

_SAME: Mapping[str, str] = {
    "negative_prompt": "negative_prompt",
    "seed": "seed",
    "steps": "steps",
    "width": "width",
    "height": "height",
}

_MUST_BE: Mapping[str, tuple[Any, ...]] = {
    "enable_hr": (False,),
    "restore_faces": (False,),
    "tiling": (False,),
    "script_name": (None, "", "None"),
    "alwayson_scripts": ({},),
    "styles": ([],),
    "subseed_strength": (0,),
    "mask": (None, ""),
    "refiner_checkpoint": (None, "", "None"),
    "init_latent": (None,),
    "save_images": (False,),
    "include_init_images": (False,),
    "firstpass_image": (None,),
}
"""What would change the picture, or the answer, and what we cannot do: only these values, and None."""

_NAMES = (
    "do_not_save_samples do_not_save_grid eta s_min_uncond s_churn s_tmax s_tmin s_noise subseed "
    "seed_resize_from_h seed_resize_from_w override_settings_restore_afterwards scheduler sampler_index "
    "script_args send_images comments disable_extra_networks force_task_id infotext refiner_switch_at "
    "hr_scale hr_upscaler hr_second_pass_steps hr_resize_x hr_resize_y hr_checkpoint_name hr_sampler_name "
    "hr_scheduler hr_prompt hr_negative_prompt hr_additional_modules firstphase_width firstphase_height "
    "mask_blur mask_blur_x mask_blur_y mask_round inpainting_fill inpaint_full_res "
    "inpaint_full_res_padding inpainting_mask_invert initial_noise_multiplier image_cfg_scale "
    "resize_mode latent_mask"
)
_WITHOUT_EFFECT = frozenset(_NAMES.split())
"""What has no meaning without the features above."""


def fields_of(values: Mapping[str, Any], *, img2img: bool) -> tuple[dict[str, Any], int]:
    """Return the fields of a request of ours, and how many pictures. Raises RequestError."""
    prompt, loras = without_loras(_text("prompt", values.get("prompt", "")))
    fields: dict[str, Any] = {"prompt": prompt}
    if loras:
        fields["loras"] = loras
    batch_size, n_iter = 1, 1
    for name, value in values.items():
        if value is None or name == "prompt":
            continue
        if name in _SAME:
            fields[_SAME[name]] = value
        elif name == "cfg_scale":
            fields["guidance"] = guidance_of(value)
        elif name in ("sampler_name",):
            _check_sampler(value)
        elif name == "batch_size":
            batch_size = _count(name, value)
        elif name == "n_iter":
            n_iter = _count(name, value)
        elif name == "override_settings":
            fields |= _overridden(value)
        elif name == "denoising_strength":
            if img2img:
                fields["strength"] = value
        elif name == "init_images" and img2img:
            fields["image"] = _first(value)
        elif name in _MUST_BE:
            if value not in _MUST_BE[name]:
                raise RequestError(name, value, "this server cannot do that; leave it out")
        elif name not in _WITHOUT_EFFECT:
            raise RequestError(name, value, "there is no such field here; leave it out")
    if img2img and "image" not in fields:
        raise RequestError("init_images", None, "send one picture as Base64")
    return fields, batch_size * n_iter


def guidance_of(cfg_scale: Any) -> float:
    """Return Z-Image's guidance for A1111's CFG scale, of which 1 is off.

    A1111 computes neg + scale * (pos - neg), Z-Image's pipeline pos + guidance * (pos - neg).

    >>> guidance_of(1), guidance_of(4.5), guidance_of(0)
    (0.0, 3.5, 0.0)
    """
    if isinstance(cfg_scale, bool) or not isinstance(cfg_scale, (int, float)):
        raise RequestError("cfg_scale", cfg_scale, "give a number; 1 is without guidance")
    return max(0.0, float(cfg_scale) - 1.0)


def without_loras(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the prompt without `<lora:name:strength>`, and the LoRAs that it named.

    >>> without_loras("a fox <lora:ink:0.5>")
    ('a fox', [{'source': 'ink', 'strength': 0.5}])

    Raises RequestError for a LoRA that is written in another way, such as with two strengths: left in the
    prompt it would be words, and the picture without it.
    """
    if (left := _NETWORK.search(_LORA.sub("", prompt))) is not None:
        raise RequestError("prompt", left[0], "write <lora:NAME:STRENGTH>, such as <lora:ink:0.8>")
    loras = [
        {"source": match[1].strip(), "strength": float(match[2]) if match[2] else 1.0}
        for match in _LORA.finditer(prompt)
    ]
    return (_LORA.sub("", prompt).strip() if loras else prompt), loras


def infotext(request: Request, model: str) -> str:
    """Return the generation parameters as A1111 writes them into a picture.

    No model hash: pasted into a webui it would switch the checkpoint.
    """
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    strength = f", Denoising strength: {request.strength:g}" if request.image else ""
    return (
        f"{request.prompt}{negative}\nSteps: {request.steps}, Sampler: {SAMPLER}, "
        f"CFG scale: {request.guidance + 1:g}, Seed: {request.seed}, "
        f"Size: {request.width}x{request.height}, Model: {model}{strength}"
    )


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(field, value, "give a text")
    return value


def _check_sampler(value: Any) -> None:
    if not isinstance(value, str) or value.lower() not in SAMPLERS:
        raise RequestError("sampler_name", value, f"Z-Image has one sampler here: {SAMPLER}")


def _count(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
        raise RequestError(field, value, "give a whole number from 1")
    return value


def _overridden(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError("override_settings", value, 'give {"sd_model_checkpoint": NAME}')
    for name, setting in value.items():
        if name == "sd_vae" and setting in ("Automatic", "None", None):
            continue
        if name != "sd_model_checkpoint":
            raise RequestError(f"override_settings.{name}", setting, "only sd_model_checkpoint may be set")
    model = value.get("sd_model_checkpoint")
    return {} if not model else {"model": _text("override_settings.sd_model_checkpoint", model)}


def _first(images: Any) -> Any:
    if not isinstance(images, list) or len(images) != 1:
        raise RequestError("init_images", "...", "send one picture as Base64")
    return images[0]
