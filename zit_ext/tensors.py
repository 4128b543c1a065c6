"""Exact numbers in, safetensors bytes out, and back: for what is no 8-bit picture. No dependencies.

The format: eight bytes of header length, a JSON header that names each tensor's dtype, shape and
place, then the bytes of all tensors, without gaps. Numbers are never touched: bytes in, bytes out.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .codecs import CodecError

BITS: Mapping[str, int] = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
"""Bits of one number of each dtype, by the format's names."""

_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers as they lie in memory: little-endian, row after row."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        bits = BITS.get(self.dtype)
        if bits is None or any(side < 0 for side in self.shape):
            raise CodecError(f"no tensor has dtype {self.dtype} and shape {list(self.shape)}")
        if len(self.data) * 8 != math.prod(self.shape) * bits:
            raise CodecError(f"{self.dtype} {list(self.shape)} does not take {len(self.data):,} bytes")


def encode_tensors(tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file; equal tensors and notes give equal bytes.

    >>> decode_tensors(encode_tensors({"x": Tensor("U8", (2,), b"ab")}))[0]["x"].data
    b'ab'
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(notes.items()))} if notes else {}
    body: list[bytes] = []
    at = 0
    # Wide numbers first, so that each tensor begins at a multiple of its width.
    for name in sorted(tensors, key=lambda each: (-BITS[tensors[each].dtype], each)):
        tensor = tensors[name]
        if name == "__metadata__":
            raise CodecError("no tensor may be called __metadata__")
        end = at + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        body.append(tensor.data)
        at = end
    spelled = json.dumps(header, separators=(",", ":")).encode()
    spelled += b" " * (-len(spelled) % 8)
    return struct.pack("<Q", len(spelled)) + spelled + b"".join(body)


def decode_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and notes of a safetensors file. Raises CodecError on anything doubtful."""
    header, start = _header(data)
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(each, str) for each in notes.values()):
        raise CodecError("the notes of the safetensors file are no texts")
    tensors: dict[str, Tensor] = {}
    places = []
    for name, told in header.items():
        dtype, shape, first, end = _place(told)
        places.append((first, end))
        tensors[name] = Tensor(dtype, shape, data[start + first : start + end])
    at = 0
    for first, end in sorted(places):
        if first != at:
            raise CodecError("the tensors of the safetensors file overlap or leave gaps")
        at = end
    if start + at != len(data):
        raise CodecError("the safetensors file is cut short or too long")
    return tensors, notes


def check_tensors(data: bytes) -> None:
    """Raise CodecError unless this is a whole safetensors file."""
    decode_tensors(data)


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise CodecError("not a safetensors file")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(_MAX_HEADER, len(data) - 8):
        raise CodecError("not a safetensors file, or cut short")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise CodecError("the header of the safetensors file cannot be read") from error
    if not isinstance(header, dict):
        raise CodecError("the header of the safetensors file is no mapping")
    return header, 8 + length


def _place(told: Any) -> tuple[str, tuple[int, ...], int, int]:
    if isinstance(told, dict):
        dtype = told.get("dtype")
        shape: Any = told.get("shape")
        offsets: Any = told.get("data_offsets")
        if isinstance(dtype, str) and _are_numbers(shape) and _are_numbers(offsets, 2):
            return dtype, tuple(shape), offsets[0], offsets[1]
    raise CodecError("the header of the safetensors file does not say where a tensor is")


def _are_numbers(value: Any, count: int | None = None) -> bool:
    is_list = isinstance(value, list) and (count is None or len(value) == count)
    return is_list and all(type(each) is int and each >= 0 for each in value)
