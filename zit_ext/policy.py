"""The decisions about a request, as pure functions: what is sound, what is the same, what bypasses."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from .codecs import PNG, is_picture
from .errors import PluginError, RequestError
from .fingerprint import canonical_bytes, read_canonical
from .records import CacheMode, FileRef, InputImage, LoraRef, ModelRef, Request, SchedulerRef
from .settings import Settings

MAX_SIDE = 8192
SIDE_STEP = 16
MAX_STEPS = 1000  # of the scheduler's training
MAX_PROMPT = 100_000  # characters; far beyond what any model reads
SEEDS = (-(2**63), 2**64 - 1)

_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,100}")

SCHEDULERS: Mapping[str, str] = {
    "FlowMatchEulerDiscreteScheduler": "FlowMatchEulerDiscreteScheduler",
    "flow_match_euler": "FlowMatchEulerDiscreteScheduler",
    "euler": "FlowMatchEulerDiscreteScheduler",
}
"""What Z-Image's pipeline really runs (docs/decisions.md): others raise in the middle of a render."""

SCHEDULER_OPTIONS = frozenset(
    {
        "base_image_seq_len", "base_shift", "invert_sigmas", "max_image_seq_len", "max_shift",
        "num_train_timesteps", "shift", "shift_terminal", "time_shift_type", "use_beta_sigmas",
        "use_dynamic_shifting", "use_exponential_sigmas", "use_karras_sigmas",
    }
)  # fmt: skip
"""What FlowMatchEulerDiscreteScheduler takes, `stochastic_sampling` aside (diffusers 0.42.1, by test)."""

NO_GUIDANCE: Mapping[str, Any] = {"negative_prompt": "", "cfg_normalization": 0.0, "cfg_truncation": 1.0}
"""What has no effect while guidance is off, at the value that stands for "no effect"."""


class Bypass(NamedTuple):
    """Why a request neither looks up nor keeps: a name to count by, and words for people."""

    name: str
    words: str


def with_defaults(request: Request, settings: Settings) -> Request:
    """Return the request with what it leaves to the settings filled in.

    >>> with_defaults(Request(prompt="a", seed=1), Settings(model="mine")).model.source
    'mine'
    """
    if not isinstance(request.model, ModelRef):
        return request
    model = replace(
        request.model,
        source=request.model.source or settings.model,
        dtype=settings.dtype if request.model.dtype == "auto" else request.model.dtype,
        attention=settings.attention if request.model.attention == "auto" else request.model.attention,
        offload=settings.offload if request.model.offload == "none" else request.model.offload,
        vae_tiling=request.model.vae_tiling or settings.vae_tiling,
    )
    namespace = settings.namespace if request.namespace == "default" else request.namespace
    return replace(request, model=model, namespace=namespace)


def at_the_door(request: Request) -> Request:
    """Return the request in its one normal form, or raise a RequestError that says what to mend.

    Everything behind the door may trust types and ranges, and two requests that ask for the same
    picture are equal.
    """
    return normalised(checked(request))


def checked(request: Request) -> Request:
    """Return the request with each number in its one type. Raises RequestError. Loads nothing."""
    media_type = _media_type(request.media_type)
    picture = media_type == PNG
    low, high = SEEDS
    return replace(
        request,
        prompt=_text("prompt", request.prompt),
        negative_prompt=_text("negative_prompt", request.negative_prompt),
        seed=_whole("seed", request.seed, low, high),
        width=_side("width", request.width) if picture else _whole("width", request.width, 0, MAX_SIDE),
        height=_side("height", request.height) if picture else _whole("height", request.height, 0, MAX_SIDE),
        steps=_whole("steps", request.steps, 1, MAX_STEPS),
        guidance=_number("guidance", request.guidance),
        cfg_normalization=_number("cfg_normalization", request.cfg_normalization),
        cfg_truncation=_number("cfg_truncation", request.cfg_truncation),
        sigmas=_sigmas(request.sigmas),
        max_sequence_length=_whole("max_sequence_length", request.max_sequence_length, 1, 8192),
        generator_device=_choice("generator_device", request.generator_device, ("cpu", "cuda", "mps", "xpu")),
        image=_image(request.image),
        strength=_number("strength", request.strength, least=0.0, most=1.0, open_below=True),
        media_type=media_type,
        model=_model(request.model),
        scheduler=_scheduler(request.scheduler, of_pictures=picture),
        loras=_loras(request.loras),
        namespace=_name("namespace", request.namespace),
        extra=_extra(request.extra),
        cache=_mode(request.cache),
        ttl_seconds=None
        if request.ttl_seconds is None
        else _number("ttl_seconds", request.ttl_seconds, least=0.0),
        keep_alive=None
        if request.keep_alive is None
        else _number("keep_alive", request.keep_alive, least=-1.0),
        priority=_whole("priority", request.priority, -1000, 1000),
        debug=bool(request.debug),
        comment=_text("comment", request.comment),
    )


def normalised(request: Request) -> Request:
    """Return the request without what has no effect (FACTS: the same bits with and without it).

    >>> normalised(Request(prompt="a", seed=1, negative_prompt="ugly")).negative_prompt
    ''
    """
    changes: dict[str, Any] = {}
    if request.guidance <= 0:
        changes |= NO_GUIDANCE
    if any(lora.strength == 0 for lora in request.loras):
        changes["loras"] = tuple(lora for lora in request.loras if lora.strength != 0)
    if request.image is None:
        changes["strength"] = 0.6
    return replace(request, **changes) if changes else request


def batch_of(request: Request, count: int) -> list[Request]:
    """Return `count` requests that differ in their seeds: s, s+1, ... With seed -1 each draws its own.

    >>> [each.seed for each in batch_of(Request(prompt="a", seed=5), 3)]
    [5, 6, 7]
    """
    count = _whole("count", count, 1, 10_000)
    seed = _whole("seed", request.seed, *SEEDS)
    if seed == -1:
        return [request] * count
    seeds = range(seed, seed + count)
    if seed < -1 <= seeds[-1] or seeds[-1] > SEEDS[1]:
        raise _wrong(
            "seed", seed, f"with {count} pictures, choose one whose followers are no -1 and fit 64 bits"
        )
    return [replace(request, seed=each) for each in seeds]


def own_bypass(request: Request, settings: Settings) -> Bypass | None:
    """Return why the request itself, or a setting, rules the cache out."""
    if request.cache is CacheMode.BYPASS:
        return Bypass("asked", "asked for by the caller")
    if request.cache is CacheMode.AUDIT:
        return Bypass("audit", "rendered again to compare it with what is kept")
    if settings.disable_cache:
        # Clients are told, too: which file, and not where on this machine it lies.
        where = PurePath(settings.origin.get("disable_cache", "settings")).name
        return Bypass("disabled", f"the cache is disabled ({where})")
    if request.debug or settings.debug:
        return Bypass("debug", "debug mode")
    if request.seed == -1 and not settings.keep_random:
        return Bypass("seed", "seed -1")
    return None


def with_seed(request: Request, draw: Callable[[int], int]) -> Request:
    """Return the request with a seed that was drawn, if it left the choice to us.

    32 bits: every web UI can show the number, and take it back.

    >>> with_seed(Request(prompt="a", seed=-1), lambda bits: 2**bits - 1).seed
    4294967295
    """
    return replace(request, seed=draw(32)) if request.seed == -1 else request


def _wrong(field: str, value: object, remedy: str) -> RequestError:
    return RequestError(field, value, remedy)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(field, value, "give a text")
    if len(value) > MAX_PROMPT:
        raise _wrong(field, value, f"give at most {MAX_PROMPT:,} characters; these are {len(value):,}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _wrong(field, value, f"remove the half character at position {error.start}") from None
    return value


def _whole(field: str, value: object, least: int, most: int) -> int:
    number: int | None = None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    elif not isinstance(value, str) and hasattr(value, "__index__"):
        number = value.__index__()
    if number is None or not least <= number <= most:
        raise _wrong(field, value, f"give a whole number from {least} to {most}")
    return number


def _number(
    field: str, value: object, *, least: float = -math.inf, most: float = math.inf, open_below: bool = False
) -> float:
    allowed = "give a finite number"
    if least > -math.inf:
        allowed = f"give a number {'above' if open_below else 'from'} {least:g}"
        allowed += f" up to {most:g}" if most < math.inf else ""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise _wrong(field, value, allowed)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong(field, value, allowed) from None
    below = number <= least if open_below else number < least
    if not math.isfinite(number) or below or number > most:
        raise _wrong(field, value, allowed)
    return number + 0.0  # -0.0 becomes 0.0


def _side(field: str, value: object) -> int:
    number = _whole(field, value, SIDE_STEP, MAX_SIDE)
    if number % SIDE_STEP:
        near = (number + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP
        raise _wrong(field, value, f"give a multiple of {SIDE_STEP}; {near} is the nearest")
    return number


def _choice(field: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise _wrong(field, value, f"give one of {', '.join(allowed)}")
    return str(value)


def _mode(value: object) -> CacheMode:
    try:
        return CacheMode(value)
    except (ValueError, RecursionError):
        raise _wrong("cache", value, f"give one of {', '.join(mode.value for mode in CacheMode)}") from None


def _media_type(value: object) -> str:
    """Return a media type in small letters: plugins say which ones they touch, and the answer bears it."""
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value.lower()):
        raise _wrong("media_type", value, "give a media type without parameters, such as image/png")
    return value.lower()


def _image(image: InputImage | None) -> InputImage | None:
    if image is not None and not isinstance(image, InputImage):
        raise _wrong("image", image, "give InputImage.of(the bytes of a picture's file)")
    if image is not None and not is_picture(image.data):
        raise _wrong("image", image, "give the bytes of a PNG, JPEG or WebP file; these are none")
    return image


def _name(field: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable():
        raise _wrong(field, value, "give a name of 1 to 128 printable characters")
    return _text(field, value)


def _sigmas(value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value:
        raise _wrong("sigmas", value, "give a list of falling numbers from 1 to 0, or leave it out")
    sigmas = tuple(_number("sigmas", each, least=0.0, most=1.0) for each in value)
    if any(one <= other for one, other in itertools.pairwise(sigmas)):
        raise _wrong("sigmas", value, "give numbers that fall from step to step")
    return sigmas


def _file(field: str, ref: FileRef) -> None:
    if not isinstance(ref, FileRef) or not isinstance(ref.source, str) or not ref.source.strip():
        raise _wrong(field, ref, "name a file, a folder or a Hugging Face id")


def _model(model: ModelRef) -> ModelRef:
    _file("model", model)
    if not isinstance(model, ModelRef):
        raise _wrong("model", model, "give a ModelRef")
    for name, part in model.parts.items():
        _file(f"model.{name}", part)
    _choice("model.dtype", model.dtype, ("auto", "bfloat16", "float16", "float32"))
    _choice("model.offload", model.offload, ("none", "model", "group"))
    _name("model.attention", model.attention)
    return replace(model, vae_tiling=bool(model.vae_tiling))


def _loras(loras: Sequence[LoraRef]) -> tuple[LoraRef, ...]:
    if not isinstance(loras, (list, tuple)):
        raise _wrong("loras", loras, "give a list of LoraRef")
    return tuple(_lora(f"loras[{index}]", lora) for index, lora in enumerate(loras))


def _lora(field: str, lora: LoraRef) -> LoraRef:
    if not isinstance(lora, LoraRef):
        raise _wrong(field, lora, "give a LoraRef")
    _file(field, lora)
    return replace(lora, strength=_number(f"{field}.strength", lora.strength))


def _scheduler(scheduler: SchedulerRef, *, of_pictures: bool) -> SchedulerRef:
    if isinstance(scheduler, SchedulerRef) and not of_pictures:
        config = _plain("scheduler.config", scheduler.config)
        return replace(scheduler, name=_name("scheduler.name", scheduler.name), config=config)
    known = isinstance(scheduler, SchedulerRef) and isinstance(scheduler.name, str)
    if not known or scheduler.name not in SCHEDULERS:
        name = getattr(scheduler, "name", scheduler)
        raise _wrong("scheduler", name, f"Z-Image runs {', '.join(sorted(set(SCHEDULERS.values())))} only")
    config = _plain("scheduler.config", scheduler.config)
    if config.get("stochastic_sampling"):
        raise _wrong(
            "scheduler.config.stochastic_sampling", True, "leave it out: it draws from a shared random state"
        )
    for name in config:
        if name not in SCHEDULER_OPTIONS:
            raise _wrong(
                f"scheduler.config.{name}", config[name], f"it takes {', '.join(sorted(SCHEDULER_OPTIONS))}"
            )
    return replace(scheduler, name=SCHEDULERS[scheduler.name], config=config)


def _extra(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    return _plain("extra", extra)


def _plain(field: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy in the one spelling of each value: what the caller does with its own changes nothing."""
    if not isinstance(value, Mapping):
        raise _wrong(field, value, "give a mapping of names to plain values")
    try:
        return cast("Mapping[str, Any]", read_canonical(canonical_bytes(value)))
    except PluginError as error:
        raise _wrong(field, value, str(error)) from None
