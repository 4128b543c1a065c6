"""How much weights may occupy, and how much a render needs beside them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..records import Request
from ..settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What weights may occupy. None is without a limit of our own: what the machine has is the limit."""

    vram_bytes: int | None = None
    ram_bytes: int | None = None
    max_models: int | None = None


def budget_of(settings: Settings, total_ram: int | None) -> Budget:
    """Return the budget that the settings give on a machine with this much RAM, where it is known.

    >>> budget_of(Settings(vram_bytes=12, max_models=2), 1000)
    Budget(vram_bytes=12, ram_bytes=750, max_models=2)
    """
    ram = settings.ram_bytes
    if ram is None and total_ram is not None:
        # A quarter stays for the host, the system and the pictures.
        ram = total_ram * 3 // 4
    return Budget(
        vram_bytes=settings.vram_bytes or None, ram_bytes=ram or None, max_models=settings.max_models or None
    )


_MARGIN = 1.1
_MOST_PER_PIXEL = 64_000.0


@dataclass(frozen=True, slots=True)
class WorkingMemory:
    """What a model's renders need beside the weights: grows with the picture, not with the steps.

    The numbers to begin with are a guess on the safe side (2.2 GB for one megapixel); what was seen on
    this device takes their place.
    """

    base: int = 256_000_000
    per_pixel: float = 2_000.0

    def expecting(self, request: Request) -> int:
        """Return the bytes that this request will need beside the weights, about."""
        return self.base + int(self.per_pixel * request.width * request.height)

    def having_seen(self, request: Request, used_bytes: int) -> WorkingMemory:
        """Return what to expect after a render that used so much at its peak.

        Up at once, with a margin; down by a fifth of the way, since renders differ.
        """
        pixels = request.width * request.height
        seen = max(0.0, used_bytes * _MARGIN - self.base) / pixels
        if seen < self.per_pixel:
            seen = self.per_pixel + (seen - self.per_pixel) / 5
        return replace(self, per_pixel=min(seen, _MOST_PER_PIXEL))

    def after_out_of_memory(self) -> WorkingMemory:
        """Return what to expect after a render that did not fit: half as much again."""
        return replace(self, per_pixel=min(self.per_pixel * 1.5, _MOST_PER_PIXEL))
