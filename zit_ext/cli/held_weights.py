"""What the model server holds, as a table and as rows: for every command that shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .. import human
from ..models.holdings import HeldModel, Holdings
from ..pipeline import WeightTier
from .console import Console


def show_held(held: Holdings, console: Console) -> None:
    """Write a line for each model that is held."""
    if not held.models:
        console.say("no weights are held")
        return
    rows = [
        (
            each.source,
            "rendering" if each.rendering else human.ago(time.time() - each.used_at),
            "always" if each.keep_alive < 0 else human.duration(each.keep_alive),
            human.size(each.bytes_in(WeightTier.VRAM)),
            human.size(each.bytes_in(WeightTier.RAM)),
            human.duration(each.load_seconds),
        )
        for each in held.models
    ]
    head = ("held", "last used", "stays for", "on the device", "parked", "read in")
    console.table(head, rows, right=("on the device", "parked", "read in"))


def held_rows(held: Holdings) -> list[dict[str, Any]]:
    """Return the same for programs: bytes, seconds, Unix times."""
    return list(map(_row, held.models))


def _row(model: HeldModel) -> dict[str, Any]:
    return {
        "source": model.source,
        "rendering": model.rendering,
        "used_at": model.used_at,
        "keep_alive": model.keep_alive,
        "load_seconds": model.load_seconds,
        "parts": list(_parts(model)),
    }


def _parts(model: HeldModel) -> Iterator[dict[str, Any]]:
    for part in model.parts:
        yield {
            "name": part.name,
            "bytes": part.bytes,
            "tier": part.tier.name.lower(),
            "leases": part.leases,
            "shared": part.shared,
        }
