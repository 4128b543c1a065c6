"""Node inputs to requests, results to tensors. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zit_ext import ModelRef, Request, Result
from zit_ext.codecs import Pixels, encode_png
from zit_ext.policy import batch_of
from zit_ext.records import InputImage, SchedulerRef


def to_requests(inputs: Mapping[str, Any]) -> list[Request]:
    """Return one request for each picture of the batch; with input pictures, for each of each of them."""
    model: ModelRef = inputs.get("zit_model") or ModelRef(source=inputs["model"].strip())
    if inputs.get("vae") is not None:
        model = replace(model, vae=inputs["vae"])
    request = Request(
        prompt=inputs["prompt"],
        negative_prompt=inputs["negative_prompt"],
        seed=inputs["seed"],
        width=inputs["width"],
        height=inputs["height"],
        steps=inputs["steps"],
        guidance=inputs["guidance"],
        model=model,
        scheduler=inputs.get("scheduler") or SchedulerRef(),
        loras=inputs.get("loras") or (),
        strength=inputs.get("strength", 0.6),
        cache=inputs["cache"],  # a word that is none is refused at the engine's door
    )
    starts = (
        [None] if inputs.get("image") is None else [InputImage.of(png) for png in to_pngs(inputs["image"])]
    )
    return [
        each for start in starts for each in batch_of(replace(request, image=start), inputs["batch_size"])
    ]


def to_pngs(image: Any) -> list[bytes]:
    """Return the pictures of an IMAGE as PNG files: 8 bits, rounded as the host rounds when it saves."""
    torch = sys.modules["torch"]
    flat = (image.detach().cpu() * 255.0).clamp(0, 255).to(torch.uint8).contiguous()
    return [
        encode_png(Pixels(each.shape[1], each.shape[0], each.shape[2], each.numpy().tobytes()))
        for each in flat
    ]


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
