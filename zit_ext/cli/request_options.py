"""The options that say what to make, and the request they make. One option for each field of a request.

What is not a number is handed on as it came: the engine's door says what is wrong with it, in the
words that every other way in uses.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..json_texts import parsed
from ..records import FieldValue, FileRef, LoraRef, ModelRef, Request, SchedulerRef
from .durations import seconds
from .input_images import read_image
from .request_files import read_request

MODES = "use|refresh|bypass|only"

_FIELDS: Sequence[tuple[str, str, str]] = (
    ("negative-prompt", "TEXT", "what should not be seen; has an effect only with guidance above 0"),
    ("seed", "N", "equal seeds, equal pictures; -1, the default, draws one and bypasses the cache"),
    ("width", "PIXELS", "a multiple of 16, at most 8192 (default: 1024)"),
    ("height", "PIXELS", "a multiple of 16, at most 8192 (default: 1024)"),
    ("steps", "N", "forwards of the transformer (default: 8, as Turbo wants it)"),
    ("guidance", "G", "classifier-free guidance (default: 0, as Turbo wants it)"),
    ("cfg-normalization", "X", "with guidance: limits the norm of the guided step (default: 0, off)"),
    ("cfg-truncation", "X", "with guidance: the part of the steps that is guided (default: 1)"),
    ("max-sequence-length", "TOKENS", "tokens of the prompt that are read (default: 512)"),
    ("generator-device", "DEVICE", "where the noise is drawn: cpu (the default), cuda, mps, xpu"),
    ("strength", "X", "with --image: how much of it is made anew, above 0 up to 1 (default: 0.6)"),
    ("media-type", "TYPE", "what is asked for, if a plugin's pipeline makes something else than a PNG"),
    ("namespace", "NAME", "whose entry it is; the default is the setting's"),
    ("priority", "N", "who renders first when several wait: higher numbers (default: 0)"),
    ("comment", "TEXT", "for people; changes nothing"),
)
_NUMBERS = {
    "seed", "width", "height", "steps", "guidance", "cfg_normalization", "cfg_truncation",
    "max_sequence_length", "strength", "priority",
}  # fmt: skip

_MODEL: Sequence[tuple[str, str, str]] = (
    ("model", "MODEL", "a folder, a Hugging Face id or a single file's name; the default is the setting's"),
    ("dtype", "TYPE", "auto, bfloat16, float16 or float32"),
    ("text-encoder", "FILE", "replaces the model's own text encoder"),
    ("vae", "FILE", "replaces the model's own VAE"),
    ("tokenizer", "FOLDER", "for a text encoder that is a single file; found by itself if one is at hand"),
    ("attention", "NAME", "attention backend, by diffusers' name"),
    ("offload", "MODE", "low-memory mode: none, model or group"),
)


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each field of a request."""
    group = parser.add_argument_group("the request")
    for name, metavar, help in _FIELDS:
        kind = number if name.replace("-", "_") in _NUMBERS else str
        group.add_argument(f"--{name}", metavar=metavar, help=help, type=kind)
    group.add_argument("--sigmas", metavar="S,S,...", help="noise levels that fall from 1 towards 0")
    group.add_argument("--image", metavar="FILE", help="the picture to start from: PNG, JPEG or WebP")
    group.add_argument(
        "--lora",
        action="append",
        metavar="FILE[:STRENGTH]",
        help="a LoRA, at strength 1 if nothing is said; may be repeated, and the order counts",
    )
    group.add_argument("--scheduler", metavar="NAME", help="a scheduler by its class name")
    group.add_argument(
        "--scheduler-config",
        action="append",
        metavar="NAME=VALUE",
        help="what differs from the config that comes with the model; may be repeated",
    )
    group.add_argument(
        "--extra",
        action="append",
        metavar="OWNER.FIELD=VALUE",
        help="anything else that changes the picture, for plugins; may be repeated",
    )
    group.add_argument(
        "--request", metavar="FILE.json", help="read the request from a file; the options given win over it"
    )
    group = parser.add_argument_group("the model")
    for name, metavar, help in _MODEL:
        group.add_argument(f"--{name}", metavar=metavar, help=help)
    group.add_argument("--vae-tiling", action="store_true", default=None, help="decode in tiles")
    group = parser.add_argument_group("the cache")
    group.add_argument("--cache", metavar=MODES, help="what to do with the cache (default: use)")
    group.add_argument(
        "--no-cache", action="store_const", const="bypass", dest="cache", help="the same as --cache bypass"
    )
    group.add_argument(
        "--ttl", metavar="TIME", help="how long the answer may be used again: 3600, 24h, 7d; 0 is for ever"
    )
    group.add_argument("--keep-alive", metavar="TIME", help="how long the weights stay; -1 means for ever")
    group.add_argument("--debug", action="store_true", default=None, help="debug mode: the cache is bypassed")


def request_from(options: argparse.Namespace, prompt: str | None) -> Request:
    """Return the request that the options ask for. Raises RequestError."""
    base = read_request(Path(options.request)) if options.request else None
    if prompt is None and base is None:
        raise RequestError("prompt", None, "give a prompt, or a request with --request FILE.json")
    request = base or Request(prompt="", seed=-1)
    changes: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
    names = [name.replace("-", "_") for name, _, _ in _FIELDS]
    for name in (*names, "debug", "cache"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    if options.sigmas is not None:
        changes["sigmas"] = tuple(number(each.strip()) for each in options.sigmas.split(","))
    if options.image is not None:
        changes["image"] = read_image(Path(options.image))
    if options.lora is not None:
        changes["loras"] = tuple(lora(text) for text in options.lora)
    if options.extra is not None:
        changes["extra"] = {**request.extra, **_pairs("extra", options.extra)}
    for name, text in (("ttl_seconds", options.ttl), ("keep_alive", options.keep_alive)):
        if text is not None:
            changes[name] = seconds(name, text, like=name)
    return replace(
        request, **changes, model=_model(request.model, options), scheduler=_scheduler(request, options)
    )


def number(text: str) -> Any:
    """Return the number that a text spells, and the text itself if it spells none.

    >>> number("8"), number("0.5"), number("eight")
    (8, 0.5, 'eight')
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def lora(text: str) -> LoraRef:
    r"""Return the LoRA that FILE[:STRENGTH] names; the colon of a drive is none of ours.

    >>> lora("ink:0.8").strength, lora("C:\\ink.safetensors").source
    (0.8, 'C:\\ink.safetensors')
    """
    source, colon, tail = text.rpartition(":")
    strength = number(tail) if colon and source else None
    if isinstance(strength, (int, float)):
        return LoraRef(source=source, strength=strength)
    return LoraRef(source=text)


def _model(model: ModelRef, options: argparse.Namespace) -> ModelRef:
    changes: dict[str, Any] = {}
    if options.model is not None:
        changes["source"] = options.model
    for name in ("dtype", "attention", "offload", "vae_tiling"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    for part in ("text_encoder", "vae", "tokenizer"):
        if (source := getattr(options, part)) is not None:
            changes[part] = FileRef(source=source)
    return replace(model, **changes)


def _scheduler(request: Request, options: argparse.Namespace) -> SchedulerRef:
    scheduler = request.scheduler
    if options.scheduler is not None:
        scheduler = SchedulerRef(name=options.scheduler)
    if options.scheduler_config is not None:
        config = {**scheduler.config, **_pairs("scheduler_config", options.scheduler_config)}
        scheduler = replace(scheduler, config=config)
    return scheduler


def _pairs(field: str, given: Sequence[str]) -> dict[str, FieldValue]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise RequestError(field, text, "give NAME=VALUE")
        pairs[name.strip()] = _plain(value)
    return pairs


def _plain(text: str) -> FieldValue:
    """Return a value as JSON has it (3, true, [1, 2]); anything else is a text."""
    try:
        value = parsed(text)
    except ValueError:
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value
