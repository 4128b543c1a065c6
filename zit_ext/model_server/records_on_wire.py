"""Records as a JSON value and raw bytes, and back, exactly. Makes only the records that are listed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..codecs import CodecError, Pixels
from ..errors import (
    EngineClosedError,
    GenerationStoppedError,
    ModelError,
    ModelMissingError,
    OutOfMemoryError,
    PluginError,
    QueueFullError,
    RequestError,
    SettingError,
    ZitError,
)
from ..models.holdings import HeldModel, HeldPart, Holdings
from ..pipeline import Rendered, WeightTier
from ..records import CacheMode, Encoded, FileRef, InputImage, LoraRef, ModelRef, Request, SchedulerRef
from .protocol import ProtocolError

_RECORDS: Mapping[str, type[Any]] = {
    each.__name__: each
    for each in (
        Encoded, FileRef, HeldModel, HeldPart, Holdings, InputImage, LoraRef, ModelRef, Pixels, Rendered,
        Request, SchedulerRef,
    )
}  # fmt: skip
_ENUMS: Mapping[str, type[Enum]] = {each.__name__: each for each in (CacheMode, WeightTier)}


def to_wire(value: object) -> tuple[Any, bytes]:
    """Return a record, or a plain value, as JSON and the bytes that stand beside it.

    >>> to_wire({"a": (1, b"xy")})
    ({'m': [['a', {'t': [1, {'b': [0, 2]}]}]]}, b'xy')
    """
    chunks: list[bytes] = []
    told = _spell(value, chunks)
    return told, chunks[0] if len(chunks) == 1 else b"".join(chunks)


def from_wire(told: object, body: bytes) -> Any:
    """Return what was sent. Raises ProtocolError for anything that is no record of ours.

    >>> from_wire(*to_wire({"a": (1, b"xy")}))
    {'a': (1, b'xy')}
    """
    try:
        return _read(told, body)
    except (KeyError, TypeError, ValueError, IndexError, RecursionError, CodecError) as error:
        raise ProtocolError(f"a record cannot be read: {type(error).__name__}: {error}") from error


def _spell(value: Any, chunks: list[bytes]) -> Any:
    if isinstance(value, Enum):
        return {"e": [type(value).__name__, value.value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        place = [sum(map(len, chunks)), len(value)]
        chunks.append(bytes(value))
        return {"b": place}
    if isinstance(value, Path):
        return {"p": str(value)}
    if isinstance(value, list):
        return {"l": [_spell(each, chunks) for each in value]}
    if isinstance(value, tuple):
        return {"t": [_spell(each, chunks) for each in value]}
    if isinstance(value, Mapping):
        return {"m": [[name, _spell(each, chunks)] for name, each in value.items()]}
    name = type(value).__name__
    if is_dataclass(value) and _RECORDS.get(name) is type(value):
        told = {each.name: _spell(getattr(value, each.name), chunks) for each in fields(value)}
        return {"r": [name, told]}
    raise ProtocolError(f"a {type(value).__name__} cannot be sent")


def _read(told: Any, body: bytes) -> Any:
    if not isinstance(told, dict):
        if told is None or isinstance(told, (bool, int, float, str)):
            return told
        raise ProtocolError("a bare list is no value")
    ((kind, given),) = told.items()
    return _READERS[kind](given, body)


def _read_bytes(place: Any, body: bytes) -> bytes:
    at, length = place
    if at < 0 or length < 0 or at + length > len(body):
        raise ProtocolError("a record names bytes that were not sent")
    return body if (at, length) == (0, len(body)) else body[at : at + length]


def _read_record(given: Any, body: bytes) -> Any:
    name, told = given
    return _RECORDS[name](**{field: _read(each, body) for field, each in told.items()})


_READERS: Mapping[str, Callable[[Any, bytes], Any]] = {
    "b": _read_bytes,
    "e": lambda given, body: _ENUMS[given[0]](given[1]),
    "l": lambda given, body: [_read(each, body) for each in given],
    "m": lambda given, body: {name: _read(each, body) for name, each in given},
    "p": lambda given, body: Path(given),
    "r": _read_record,
    "t": lambda given, body: tuple(_read(each, body) for each in given),
}


def error_to_wire(error: BaseException) -> dict[str, Any]:
    """Return an error as plain JSON: its kind, or the nearest that travels, and its facts."""
    words = str(error) if isinstance(error, ZitError) else f"{type(error).__name__}: {error}"
    kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS), "ModelError")
    facts = {}
    for name in _ERRORS.get(kind, ()):
        value = getattr(error, name)
        facts[name] = value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
    return {"kind": kind, "facts": facts, "words": words}


def error_from_wire(told: Mapping[str, Any]) -> ZitError:
    """Return the error that the other side met."""
    kind, facts, words = told.get("kind"), told.get("facts"), str(told.get("words", ""))
    make = _MAKERS.get(str(kind))
    try:
        return make(dict(facts or {}), words) if make is not None else ModelError(words)
    except (KeyError, TypeError, ValueError):
        return ModelError(words)


_ERRORS: Mapping[str, tuple[str, ...]] = {
    "SettingError": ("field", "value", "remedy"),
    "RequestError": ("field", "value", "remedy"),
    "ModelMissingError": ("source", "remedy"),
    "OutOfMemoryError": ("needed", "free", "device"),
    "QueueFullError": ("limit", "retry_after"),
    "PluginError": ("plugin", "message"),
    "GenerationStoppedError": (),
    "EngineClosedError": (),
}

_MAKERS: Mapping[str, Callable[[dict[str, Any], str], ZitError]] = {
    "SettingError": lambda facts, words: SettingError(**facts),
    "RequestError": lambda facts, words: RequestError(**facts),
    "ModelMissingError": lambda facts, words: ModelMissingError(**facts),
    "OutOfMemoryError": lambda facts, words: OutOfMemoryError(**facts),
    "QueueFullError": lambda facts, words: QueueFullError(**facts),
    "PluginError": lambda facts, words: PluginError(**facts),
    "GenerationStoppedError": lambda facts, words: GenerationStoppedError(words),
    "EngineClosedError": lambda facts, words: EngineClosedError(words),
}
