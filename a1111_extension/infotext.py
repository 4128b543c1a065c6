"""What a picture of the tab says of itself, and back. Pure.

The webui writes this text into the picture's file, and reads it with a parser of its own: prompts lose
spaces there, and numbers would lose digits. So whatever would not come back as it was is written a second
time under a name of ours. No "Model hash": pasted, it would switch the webui's checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zit_ext.http.a1111_fields import SAMPLER
from zit_ext.records import Request

OURS = "Z-Image guidance"
"""In every infotext of ours, and in no other."""

SIGMAS: Mapping[str, Mapping[str, Any]] = {
    "as the model": {},
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
"""What the scheduler can be asked for by name."""

_SIDE = 16


def written(request: Request, *, prompt: str, model: str, sigmas: str, shift: float) -> str:
    """Return the infotext of an answered request. `prompt` is what was typed, with its `<lora:name:1>`."""
    negative = request.negative_prompt
    values: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": SAMPLER,
        "CFG scale": f"{request.guidance + 1:g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model": model,
    }
    if request.image is not None:
        values["Denoising strength"] = repr(float(request.strength))
    values[OURS] = repr(float(request.guidance))
    if SIGMAS.get(sigmas):
        values["Z-Image sigmas"] = sigmas
    if shift:
        values["Z-Image shift"] = repr(float(shift))
    if _as_read(prompt) != prompt:
        values["Z-Image prompt"] = json.dumps(prompt, ensure_ascii=False)
    if _as_read(negative) != negative:
        values["Z-Image negative prompt"] = json.dumps(negative, ensure_ascii=False)
    lines = [prompt, *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join([*lines, ", ".join(f"{name}: {_quoted(name, value)}" for name, value in values.items())])


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an infotext says of the tab's fields, by their names; what it does not say is not there.

    `values` are the webui's. Of another model's picture only prompts, seed and size mean anything here.
    """
    found: dict[str, Any] = {
        "prompt": values.get("Z-Image prompt", values.get("Prompt")),
        "negative_prompt": values.get("Z-Image negative prompt", values.get("Negative prompt")),
        "seed": _number(str, values.get("Seed")),
        "width": _side(values.get("Size-1")),
        "height": _side(values.get("Size-2")),
    }
    if OURS in values:
        sigmas = values.get("Z-Image sigmas", "as the model")
        found |= {
            "steps": _number(int, values.get("Steps")),
            "guidance": _number(float, values[OURS]),
            "strength": _number(float, values.get("Denoising strength")),
            "model": values.get("Model"),
            "sigmas": sigmas if sigmas in SIGMAS else None,
            "shift": _number(float, values.get("Z-Image shift", 0)),
        }
    return {name: value for name, value in found.items() if value is not None}


def _as_read(text: str) -> str | None:
    """Return a prompt as the webui's parser reads it out of an infotext; None where it goes wrong.

    >>> _as_read(" a fox"), _as_read("a fox"), _as_read("a\\nNegative prompt: b")
    ('a fox', 'a fox', None)
    """
    lines = [line.strip() for line in text.strip().split("\n")]
    if any(line.startswith("Negative prompt:") for line in lines):
        return None
    return "\n".join(lines)


def _quoted(name: str, value: Any) -> str:
    text = str(value)
    if name.endswith(" prompt"):
        return text  # JSON already
    return json.dumps(text, ensure_ascii=False) if any(each in text for each in ',:\n"') else text


def _number(kind: Any, value: Any) -> Any:
    try:
        number = kind(float(value)) if kind is not str else str(int(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number


def _side(value: Any) -> int | None:
    """Return a side that Z-Image can have, near this one.

    >>> _side("1000"), _side("512"), _side("no")
    (1008, 512, None)
    """
    number = _number(int, value)
    return None if number is None else max(_SIDE, round(number / _SIDE) * _SIDE)
