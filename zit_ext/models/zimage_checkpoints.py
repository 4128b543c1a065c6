"""Looks at safetensors files before anybody loads them: whole, of a known format, and what is inside.

Reads headers only, with the standard library: microseconds, whatever the size of the weights.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import ModelError, ModelMissingError
from ..json_texts import parsed

READABLE = frozenset({"F32", "F16", "BF16", "F64"})
FLOAT8 = frozenset({"F8_E4M3", "F8_E5M2"})
ITEM_BYTES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Plain casts of the weights, which loading widens again."""

_SCALED = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_MAX_HEADER = 100_000_000  # bytes; the format's own limit

TRANSFORMER, TEXT_ENCODER, VAE = "transformer", "text_encoder", "vae"

_MARKS: Mapping[str, tuple[str, ...]] = {
    TRANSFORMER: ("noise_refiner.0.attention_norm1.weight", "context_refiner.0.attention_norm1.weight"),
    TEXT_ENCODER: ("embed_tokens.weight", "layers.0.self_attn.q_norm.weight"),
    VAE: ("decoder.conv_in.weight", "encoder.conv_in.weight"),
}
"""Names of tensors that tell one part from another, without the prefix that a layout puts before them."""

_PREFIXES = ("", "model.", "model.diffusion_model.", "first_stage_model.", "vae.")


class Stored(NamedTuple):
    """Where one tensor lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Its first byte in the file, and in `end` the one after its last."""
    end: int


class Checkpoint(NamedTuple):
    """What the header of a safetensors file says."""

    path: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]

    @property
    def dtypes(self) -> Mapping[str, str]:
        """Return the number format of each tensor, by its name."""
        return {name: stored.dtype for name, stored in self.tensors.items()}

    @property
    def part(self) -> str | None:
        """Return which part of a model this is, or None if of no Z-Image model."""
        for part, marks in _MARKS.items():
            if any(all(prefix + mark in self.tensors for mark in marks) for prefix in _PREFIXES):
                return part
        return None


def read(path: Path) -> Checkpoint:
    """Return what the header of the file says. Raises ModelError where the file is damaged.

    The file's length is compared with what the header promises, so that an interrupted download is
    found out here and not in the middle of a load.
    """
    try:
        with path.open("rb") as file:
            return read_header(file, path)
    except FileNotFoundError as error:
        raise ModelMissingError(str(path), "the file is not there; download it again") from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error}; check the disk and the file's permissions"
        ) from error


def read_header(file: BinaryIO, path: Path) -> Checkpoint:
    """Return what the header of an open file says. Raises ModelError, and OSError of the disk."""
    size = os.fstat(file.fileno()).st_size
    length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else 0
    if not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise damaged(path, "it does not start like a safetensors file")
    try:
        header = parsed(file.read(length))
    except ValueError as error:
        raise damaged(path, f"its header is no JSON ({error})") from error
    return _checked(path, header, size, 8 + length)


def check_numbers(checkpoint: Checkpoint) -> None:
    """Raise ModelError where the weights are in a number format that cannot be loaded."""
    scaled = next((name for name in checkpoint.dtypes if any(mark in name for mark in _SCALED)), None)
    if scaled is not None:
        raise ModelError(
            f"{checkpoint.path} holds scaled 8-bit weights ({scaled}), which diffusers does not read; "
            "use the bf16 file, or an fp8 file that is a plain cast"
        )
    for name, dtype in checkpoint.dtypes.items():
        if dtype not in READABLE | FLOAT8:
            raise ModelError(
                f"{checkpoint.path} holds {name} as {dtype}, which diffusers does not read; "
                "use the bf16 file of these weights"
            )


def damaged(path: Path, what: str) -> ModelError:
    """Return the error for a file whose bytes are not what they should be."""
    return ModelError(f"{path} is damaged: {what}; delete it and download it again")


def _checked(path: Path, header: object, size: int, data_at: int) -> Checkpoint:
    if not isinstance(header, dict):
        raise damaged(path, "its header is no mapping")
    metadata = header.pop("__metadata__", {})
    tensors: dict[str, Stored] = {}
    end = data_at
    for name, entry in header.items():
        try:
            start, stop = (data_at + int(offset) for offset in entry["data_offsets"])
            stored = Stored(str(entry["dtype"]), tuple(map(int, entry["shape"])), start, stop)
        except (TypeError, KeyError, ValueError, OverflowError):
            raise damaged(path, f"its header does not describe {name}") from None
        item = ITEM_BYTES.get(stored.dtype)
        if not data_at <= start <= stop or (item and stop - start != item * math.prod(stored.shape)):
            raise damaged(path, f"its header contradicts itself about {name}")
        tensors[name] = stored
        end = max(end, stop)
    if end != size:
        raise damaged(path, f"{size - data_at:,} bytes of weights are there, and {end - data_at:,} should be")
    return Checkpoint(path, tensors, metadata if isinstance(metadata, dict) else {})
