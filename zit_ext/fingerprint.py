"""Fields in, canonical bytes and key out; why two keys differ. Pure: no clock, no files, no environment.

Canonical bytes have one spelling for each value: a tag, a length, the content. Integral floats are
spelled as integers (8 and 8.0 alike, -0.0 as 0), other floats by their 64 bits, text as UTF-8 without
any normalisation, mappings sorted by the bytes of their names.
"""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from enum import Enum

from .errors import FieldClashError, PluginError
from .records import FieldValue, Fingerprint

SCHEMA = 2
"""Raise it when equal fields would no longer mean equal pictures. It makes every entry a miss."""

_MAX_DEPTH = 32


def fingerprint(fields: Mapping[str, FieldValue]) -> Fingerprint:
    """Return the fingerprint of these fields; their order does not matter.

    >>> fingerprint({"seed": 1, "steps": 8}).key == fingerprint({"steps": 8.0, "seed": 1}).key
    True

    Raises PluginError with the path to a value that has no one spelling.
    """
    canonical = canonical_bytes({**fields, "schema": SCHEMA})
    return Fingerprint(hashlib.sha256(canonical).hexdigest(), dict(fields), canonical)


def canonical_bytes(value: FieldValue) -> bytes:
    """Return the one spelling of a value.

    >>> canonical_bytes({"b": (1.0, None), "a": "x"})
    b'{s1:as1:xs1:b[i1;n]}'
    """
    out: list[bytes] = []
    try:
        _spell(value, 0, out)
    except _NoSpellingError as error:
        raise error.told() from error.__cause__
    return b"".join(out)


def _spell(value: FieldValue, depth: int, out: list[bytes]) -> None:
    # Graphs of other programs come to thousands of values: what is frequent is asked first, and where we
    # are is worked out only if something has no spelling.
    kind = type(value)
    if kind is str:
        _spell_text(value, out)
    elif depth > _MAX_DEPTH:
        raise _NoSpellingError("is nested too deeply")
    elif kind is dict:
        _spell_mapping(value, depth, out)
    elif kind is list or kind is tuple:
        _spell_list(value, depth, out)
    elif value is None:
        out.append(b"n")
    elif isinstance(value, bool):
        out.append(b"t" if value else b"f")
    elif isinstance(value, Enum):
        _spell(value.value, depth, out)
    elif isinstance(value, int):
        _spell_whole(value, out)
    elif isinstance(value, float):
        _spell_float(value, out)
    elif isinstance(value, str):
        _spell_text(value, out)
    elif isinstance(value, bytes):
        out.append(b"b%d:" % len(value) + value)
    elif is_dataclass(value) and not isinstance(value, type):
        record = {each.name: getattr(value, each.name) for each in fields_of(value) if each.compare}
        _spell(record, depth, out)
    elif isinstance(value, Mapping):
        _spell_mapping(value, depth, out)
    elif isinstance(value, (tuple, list)):
        _spell_list(value, depth, out)
    else:
        raise _NoSpellingError(f"is a {kind.__name__}")


def _spell_whole(value: int, out: list[bytes]) -> None:
    try:
        out.append(b"i%d;" % value)
    except ValueError as error:  # Python spells no more than 4300 digits
        raise _NoSpellingError("is a number of too many digits") from error


def _spell_float(value: float, out: list[bytes]) -> None:
    if not math.isfinite(value):
        raise _NoSpellingError(f"is {value}")
    if value.is_integer():
        out.append(b"i%d;" % int(value))
    else:
        out.append(b"d" + struct.pack(">d", value))


def _spell_text(value: str, out: list[bytes]) -> None:
    out.append(_short(value) if type(value) is str and len(value) <= 24 else _text(value))


def _text(value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise _NoSpellingError(f"holds half a character at {error.start}") from error
    return b"s%d:" % len(encoded) + encoded


_short = functools.lru_cache(maxsize=4096)(_text)
"""The same of names of fields and classes, of which there are few, and each comes often."""


def _spell_list(value: Sequence[FieldValue], depth: int, out: list[bytes]) -> None:
    out.append(b"[")
    index = 0
    try:
        for inner in value:
            _spell(inner, depth + 1, out)
            index += 1
    except _NoSpellingError as error:
        error.path.append(str(index))
        raise
    out.append(b"]")


def _spell_mapping(value: Mapping[str, FieldValue], depth: int, out: list[bytes]) -> None:
    for name in value:
        if not isinstance(name, str):
            raise _NoSpellingError(f"has a name that is a {type(name).__name__}, not text")
    out.append(b"{")
    for name in sorted(value):  # by code points, and so by the bytes of UTF-8
        _spell_text(name, out)
        try:
            _spell(value[name], depth + 1, out)
        except _NoSpellingError as error:
            error.path.append(name)
            raise
    out.append(b"}")


class _NoSpellingError(Exception):
    """A value has no one spelling; on its way out it learns where it was."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str] = []
        """Names from the innermost to the outermost."""

    def told(self) -> PluginError:
        field = ".".join(reversed(self.path)) or "the fields"
        owner = field.split(".")[0] if "." in field else "zit_ext"
        return PluginError(
            owner,
            f"fingerprint field {field} {self.what}; "
            "allowed are text, numbers, bool, None, bytes, lists and dicts",
        )


def read_canonical(data: bytes) -> FieldValue:
    """Return the value that these canonical bytes spell. Raises ValueError if they spell none.

    >>> read_canonical(canonical_bytes({"a": [1, 2.5, "x", None]}))
    {'a': [1, 2.5, 'x', None]}
    """
    try:
        value, end = _read(data, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not canonical bytes") from error
    if end != len(data):
        raise ValueError("not canonical bytes")
    return value


def _read(data: bytes, at: int) -> tuple[FieldValue, int]:
    tag = data[at : at + 1]
    if tag in b"ntf" and tag:
        return {b"n": None, b"t": True, b"f": False}[tag], at + 1
    if tag == b"i":
        end = data.index(b";", at)
        return int(data[at + 1 : end]), end + 1
    if tag == b"d":
        return struct.unpack_from(">d", data, at + 1)[0], at + 9
    if tag in b"sb" and tag:
        start = data.index(b":", at) + 1
        end = start + int(data[at + 1 : start - 1])
        if end > len(data):
            raise ValueError("not canonical bytes")
        return (data[start:end].decode() if tag == b"s" else data[start:end]), end
    if tag == b"[":
        items = []
        at += 1
        while data[at : at + 1] != b"]":
            item, at = _read(data, at)
            items.append(item)
        return items, at + 1
    if tag == b"{":
        found = {}
        at += 1
        while data[at : at + 1] != b"}":
            name, at = _read(data, at)
            found[name], at = _read(data, at)
        return found, at + 1
    raise ValueError("not canonical bytes")


def merge_fields(contributions: Iterable[tuple[str, Mapping[str, FieldValue]]]) -> dict[str, FieldValue]:
    """Merge the fields of (plugin, fields) pairs; agreeing twice is fine, disagreeing is an error."""
    merged: dict[str, FieldValue] = {}
    givers: dict[str, str] = {}
    for plugin, contribution in contributions:
        for name, value in contribution.items():
            if name in merged and canonical_bytes(merged[name]) != canonical_bytes(value):
                raise FieldClashError(name, (givers[name], plugin))
            merged[name] = value
            givers.setdefault(name, plugin)
    return merged


def differing_fields(
    one: Mapping[str, FieldValue], other: Mapping[str, FieldValue]
) -> dict[str, tuple[FieldValue, FieldValue]]:
    """Return the fields that make two fingerprints differ, with both values: why this was a miss.

    Nested values are named by their path; what is not there is None.

    >>> differing_fields({"seed": 1, "model": {"dtype": "a"}}, {"seed": 2, "model": {"dtype": "a"}})
    {'seed': (1, 2)}
    """
    differences: dict[str, tuple[FieldValue, FieldValue]] = {}
    _compare(_plain(one), _plain(other), "", differences)
    return differences


def _plain(fields: Mapping[str, FieldValue]) -> FieldValue:
    return read_canonical(canonical_bytes(fields))


def _compare(
    one: FieldValue, other: FieldValue, path: str, differences: dict[str, tuple[FieldValue, FieldValue]]
) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            _compare(one.get(name), other.get(name), f"{path}.{name}" if path else name, differences)
    elif one != other or type(one) is not type(other):
        differences[path] = (one, other)
