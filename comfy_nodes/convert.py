"""Node inputs to requests, results to tensors. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from zit_ext import ModelRef, Request, Result
from zit_ext.policy import batch_of


def to_requests(inputs: Mapping[str, Any]) -> list[Request]:
    """Return one request for each picture of the batch."""
    request = Request(
        prompt=inputs["prompt"],
        negative_prompt=inputs["negative_prompt"],
        seed=inputs["seed"],
        width=inputs["width"],
        height=inputs["height"],
        steps=inputs["steps"],
        guidance=inputs["guidance"],
        model=ModelRef(source=inputs["model"].strip()),
        cache=inputs["cache"],  # a word that is none is refused at the engine's door
    )
    return batch_of(request, inputs["batch_size"])


def to_image(results: Sequence[Result]) -> Any:
    """Return an IMAGE: float32, batch x height x width x channels, 0 to 1.

    A hit gives the same tensor as the render did, to the bit: both start from the same 8-bit pixels,
    and n/255 is exact for all 256 values.
    """
    torch = sys.modules["torch"]  # the host imported it; a node without a host has no tensors
    pictures = []
    for result in results:
        pixels = result.pixels()
        flat = torch.frombuffer(bytearray(pixels.data), dtype=torch.uint8)
        pictures.append(flat.reshape(pixels.height, pixels.width, pixels.channels).to(torch.float32) / 255.0)
    return torch.stack(pictures)


def to_status(results: Sequence[Result]) -> str:
    """Return one line for each picture: how it was answered, how long it took, what was saved."""
    lines = []
    for result in results:
        status = result.status
        parts = [status.outcome.value]
        if status.detail:
            parts.append(status.detail)
        parts.append(f"seed {result.request.seed}")
        parts.append(f"{result.seconds:.3f} s")
        if result.saved_seconds:
            parts.append(f"saved {result.saved_seconds:.1f} s")
        if status.key:
            parts.append(f"key {status.key[:12]}")
        lines.append(", ".join([*parts, *result.warnings]))
    return "\n".join(lines)
