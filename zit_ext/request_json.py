"""A request as JSON: its fields by name, files of weights by their source.

{"prompt": "a lighthouse", "seed": 7, "model": "Tongyi-MAI/Z-Image-Turbo",
 "loras": [{"source": "ink", "strength": 0.8}], "image": ...}

What stands for a picture to start from is the caller's business: a file's name, or its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from .codecs import is_picture
from .errors import RequestError
from .nearest import nearest
from .records import FieldValue, FileRef, InputImage, LoraRef, ModelRef, Request, SchedulerRef

_FILLED_IN = {"digest", "path", "identity", "believed", "context"}
"""Fields that the engine finds out; nobody else can know them."""

_WHOLE = re.compile(r"-?[0-9]{1,20}", re.ASCII)

FIELDS = frozenset(each.name for each in fields(Request)) - _FILLED_IN
"""The names that a request may have."""


def request_of(values: Mapping[str, Any], read_image: Callable[[Any], InputImage]) -> Request:
    """Return the request with these fields. Raises RequestError that names the field."""
    _refuse_unknown(values, FIELDS, "")
    if "prompt" not in values:
        raise RequestError("prompt", None, "name a prompt")
    made: dict[str, Any] = {"seed": -1, **values}
    if isinstance(made["seed"], str) and _WHOLE.fullmatch(made["seed"]):
        made["seed"] = int(made["seed"])  # numbers of JavaScript lose digits beyond 53 bits
    if "model" in values:
        made["model"] = _model(values["model"])
    if "loras" in values:
        made["loras"] = tuple(
            _part(LoraRef, f"loras[{index}]", each)
            for index, each in enumerate(_list("loras", values["loras"]))
        )
    if "scheduler" in values:
        made["scheduler"] = _scheduler(values["scheduler"])
    if values.get("sigmas") is not None:
        made["sigmas"] = tuple(_list("sigmas", values["sigmas"]))
    if values.get("image") is not None:
        made["image"] = read_image(values["image"])
    return Request(**made)


def image_of(data: bytes, shown: str) -> InputImage:
    """Return the picture in these bytes. Raises RequestError if they are none that we know."""
    if not is_picture(data):
        raise RequestError("image", shown, "give a PNG, JPEG or WebP file; this is none of them")
    return InputImage.of(data)


def _model(value: Any) -> ModelRef:
    if isinstance(value, str):
        return ModelRef(source=value)
    made = dict(_mapping("model", value))
    for name in ("text_encoder", "vae", "tokenizer"):
        if made.get(name) is not None:
            made[name] = _part(FileRef, f"model.{name}", made[name])
    model: ModelRef = _record(ModelRef, "model", made)
    return model


def _part(kind: type[Any], field: str, value: Any) -> Any:
    if isinstance(value, str):
        return kind(source=value)
    made = dict(_mapping(field, value))
    if "source" not in made:
        raise RequestError(f"{field}.source", None, "name the file")
    return _record(kind, field, made)


def _scheduler(value: Any) -> SchedulerRef:
    if isinstance(value, str):
        return SchedulerRef(name=value)
    made: SchedulerRef = _record(SchedulerRef, "scheduler", _mapping("scheduler", value))
    return made


def _record(kind: type[Any], field: str, made: Mapping[str, FieldValue]) -> Any:
    known = {each.name for each in fields(kind)} - _FILLED_IN
    _refuse_unknown(made, known, f"{field}.")
    return kind(**made)


def _mapping(field: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(field, value, 'give a name, or {"field": value, ...}')
    return value


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise RequestError(field, value, "give a list")
    return value


def _refuse_unknown(values: Mapping[str, Any], known: frozenset[str] | set[str], prefix: str) -> None:
    for name in values:
        if name not in known:
            near = ", ".join(nearest(name, known)) or "none is near"
            raise RequestError(f"{prefix}{name}", values[name], f"there is no such field; nearest: {near}")
