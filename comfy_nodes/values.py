"""What flows along the links of a graph, as safetensors bytes and back, to the bit. No pickle.

Tensors, and lists, dicts and plain values around them: IMAGE, MASK, LATENT, CONDITIONING, AUDIO are made
of these. Anything else is refused by name. How a tensor lies in memory is kept too where it is dense:
later nodes may add up in that order.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from zit_ext.codecs import CodecError
from zit_ext.tensors import Tensor, decode_tensors, encode_tensors

_FORM = "zit_value"
_MAX_DEPTH = 32

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


class NotStorableError(Exception):
    """The value holds something that has no exact bytes; the words name it."""


def encode_value(value: Any) -> bytes:
    """Return the value as a safetensors file. Raises NotStorableError."""
    tensors: dict[str, Tensor] = {}
    form = _form(value, tensors, {}, 0)
    return encode_tensors(tensors, {_FORM: json.dumps(form, separators=(",", ":"))})


def decode_value(data: bytes) -> Any:
    """Return the value that these bytes hold. Raises CodecError on anything doubtful."""
    tensors, notes = decode_tensors(data)
    try:
        made: dict[str, Any] = {}
        return _value(json.loads(notes[_FORM]), tensors, made)
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError, RecursionError) as error:
        raise CodecError(f"the stored value cannot be read: {error}") from error


def _form(value: Any, tensors: dict[str, Tensor], known: dict[int, str], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise NotStorableError("the value is nested too deeply")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return {"int": str(value)}
    if kind is float:
        return {"float": value.hex()}
    if kind in (list, tuple):
        return {kind.__name__: [_form(each, tensors, known, depth + 1) for each in value]}
    if kind is dict:
        if not all(type(name) in (str, int) for name in value):
            raise NotStorableError("the value holds a dict whose names are no texts")
        pairs = [
            [_form(name, tensors, known, depth + 1), _form(each, tensors, known, depth + 1)]
            for name, each in value.items()
        ]
        return {"dict": pairs}
    if kind is sys.modules["torch"].Tensor:
        if id(value) in known:  # one tensor in two places stays one
            return {"same": known[id(value)]}
        name = known[id(value)] = str(len(tensors))
        order = _order(value)
        tensors[name] = _bytes_of(value, order)
        return {"tensor": name, "order": order, "device": str(value.device)}
    raise NotStorableError(f"the value holds a {kind.__name__}")


def _order(tensor: Any) -> list[int] | None:
    """Return in which order the dimensions lie in memory; None where there are gaps or overlaps."""
    if tensor.layout is not sys.modules["torch"].strided:
        raise NotStorableError("the value holds a tensor that is not dense")
    order = sorted(range(tensor.dim()), key=lambda each: (-tensor.stride(each), each))
    return order if tensor.permute(order).is_contiguous() else None


def _bytes_of(tensor: Any, order: list[int] | None) -> Tensor:
    torch = sys.modules["torch"]
    dtype = _DTYPES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None or tensor.is_quantized:
        raise NotStorableError(f"the value holds a tensor of {tensor.dtype}")
    plain = tensor.detach().resolve_neg().to("cpu")
    plain = (plain if order is None else plain.permute(order)).contiguous()
    shape = tuple(plain.shape)
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return Tensor(dtype, shape, data)


def _value(form: Any, tensors: dict[str, Tensor], made: dict[str, Any]) -> Any:
    if form is None or isinstance(form, (bool, str)):
        return form
    if "int" in form:
        return int(form["int"])
    if "float" in form:
        return float.fromhex(form["float"])
    if "list" in form:
        return [_value(each, tensors, made) for each in form["list"]]
    if "tuple" in form:
        return tuple(_value(each, tensors, made) for each in form["tuple"])
    if "dict" in form:
        return {_value(name, tensors, made): _value(each, tensors, made) for name, each in form["dict"]}
    if "same" in form:
        return made[form["same"]]
    name = form["tensor"]
    made[name] = _tensor(tensors[name], form["order"], form["device"])
    return made[name]


def _tensor(stored: Tensor, order: list[int] | None, device: str) -> Any:
    torch = sys.modules["torch"]
    by_name = {words: getattr(torch, name) for name, words in _DTYPES.items() if hasattr(torch, name)}
    dtype = by_name[stored.dtype]
    if stored.data:
        flat = torch.frombuffer(bytearray(stored.data), dtype=torch.uint8).view(dtype)
    else:
        flat = torch.empty(0, dtype=dtype)
    tensor = flat.reshape(stored.shape)
    if order is not None:
        if sorted(order) != list(range(tensor.dim())):
            raise ValueError("the order of a tensor's dimensions is none")
        back = sorted(range(len(order)), key=order.__getitem__)
        tensor = tensor.permute(back)
    return tensor if device == "cpu" else tensor.to(device)
