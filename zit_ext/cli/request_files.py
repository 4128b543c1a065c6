"""A request as a JSON file: its fields by name, files of weights by their source.

{"prompt": "a lighthouse", "seed": 7, "model": "Tongyi-MAI/Z-Image-Turbo",
 "loras": [{"source": "ink", "strength": 0.8}], "image": "start.png"}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..records import FieldValue, FileRef, InputImage, LoraRef, ModelRef, Request, SchedulerRef
from .input_images import read_image

_FILLED_IN = {"digest", "path", "identity", "context"}
"""Fields that the engine finds out; a file cannot know them."""


def read_request(path: Path) -> Request:
    """Return the request in a file. Raises RequestError that names the file or the field."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError("request", str(path), f"name a JSON file with a request ({error})") from None
    if not isinstance(values, dict):
        raise RequestError("request", str(path), 'the file must hold {"field": value, ...}')
    return request_of(values, folder=path.parent)


def request_of(values: Mapping[str, Any], folder: Path) -> Request:
    """Return the request with these fields; a picture to start from is looked for beside the file."""
    known = {each.name for each in fields(Request)} - _FILLED_IN
    _refuse_unknown(values, known, "")
    if "prompt" not in values:
        raise RequestError("prompt", None, "the file must name a prompt")
    made: dict[str, Any] = {"seed": -1, **values}
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
        made["image"] = _image(values["image"], folder)
    return Request(**made)


def _model(value: Any) -> ModelRef:
    if isinstance(value, str):
        return ModelRef(source=value)
    made = dict(_mapping("model", value))
    for name in ("text_encoder", "vae"):
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


def _image(value: Any, folder: Path) -> InputImage:
    if not isinstance(value, str):
        raise RequestError("image", value, "name a PNG, JPEG or WebP file")
    return read_image(folder / value)


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


def _refuse_unknown(values: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for name in values:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=2, cutoff=0.4)) or "none is near"
            raise RequestError(f"{prefix}{name}", values[name], f"there is no such field; nearest: {near}")
