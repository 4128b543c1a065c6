"""Attention whose queries and keys are rounded to few bits, as SageAttention does on a GPU.

Turned on by INT8_ATTENTION_BITS=8 (2 to 8) in the environment, for the whole life of the process: what is
resident, and the prompts that it remembers, were then all made in one way. It changes pixels, and nothing
in a request tells: so the bits are a field. Off, the field is left out, and old entries stay warm.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from zit_ext import ModelRef, Request, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

fields_version = 2  # 1 rounded per tensor, 2 rounds per row: the same bits, and other pixels
touches = ("image/*",)

BITS = int(os.environ.get("INT8_ATTENTION_BITS") or 0)


@hookimpl
def zit_fingerprint_fields(request: Request) -> dict[str, int]:
    return {"bits": BITS} if BITS else {}


@hookimpl(tryfirst=True)
def zit_open_pipeline(model: ModelRef) -> None:
    """Patch torch where weights are about to be opened, and let the next plugin open them."""
    if BITS:
        _patch()


def _patch() -> None:
    from torch.nn import functional

    exact = functional.scaled_dot_product_attention
    if getattr(exact, "rounds", False):
        return

    def rounding(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        return exact(_rounded(query), _rounded(key), value, *args, **options)

    rounding.rounds = True  # type: ignore[attr-defined]
    functional.scaled_dot_product_attention = rounding


def _rounded(tensor: Tensor) -> Tensor:
    """Return the tensor with each row rounded to BITS bits, symmetrically around 0."""
    most = 2 ** (BITS - 1) - 1
    scale = tensor.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / most
    return (tensor / scale).round() * scale
