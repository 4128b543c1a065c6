"""The decisions about room: which idle parts park, which models are closed before a load. Pure.

Least recently used first, weighed by what it costs to bring back: what is large, long idle and quick
to return goes before what is small, just used or slow to return.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..pipeline import WeightTier
from .budget import Budget
from .holdings import HeldModel, Holdings

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Generic[K]):
    """Something idle that could make room."""

    what: K
    bytes: int
    idle_seconds: float
    return_seconds: float
    """What it costs to bring it back."""
    wanted: bool = False
    """Somebody waits for it: it goes only when nothing else is left."""


def choose(candidates: Iterable[Candidate[K]], wanted_bytes: int, least: int = 0) -> list[K]:
    """Return what should go so that `wanted_bytes` become free, and at least `least` things go.

    All of them if that is not enough; and nothing that could have stayed.
    """
    ordered = sorted(candidates, key=lambda each: (each.wanted, -_eagerness(each)))
    chosen: list[Candidate[K]] = []
    freed = 0
    for each in ordered:
        if freed >= wanted_bytes and len(chosen) >= least:
            break
        if each.bytes > 0 or len(chosen) < least:
            chosen.append(each)
            freed += each.bytes
    for each in reversed(list(chosen)):
        if freed - each.bytes >= wanted_bytes and len(chosen) > least:
            chosen.remove(each)
            freed -= each.bytes
    return [each.what for each in chosen]


def _eagerness(each: Candidate[K]) -> float:
    return (max(0.0, each.idle_seconds) + 1.0) * each.bytes / max(each.return_seconds, 1e-6)


def shortfall(*, needed: int, working: int, in_vram: int, limit: int | None, free: int | None) -> int:
    """Return the bytes of weights that must leave the device before `needed` bytes of others come.

    `working` bytes stay free for activations, where it is known what is free.

    >>> shortfall(needed=8, working=2, in_vram=6, limit=12, free=20)
    2
    >>> shortfall(needed=8, working=2, in_vram=0, limit=None, free=7)
    3
    """
    over = 0 if limit is None else in_vram + needed - limit
    return max(0, over, 0 if free is None else needed + working - free)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to close before a model is read."""

    close: tuple[str, ...]
    fits: bool
    """False while even that is not enough: a model that renders cannot be closed."""


def plan_load(
    held: Holdings, budget: Budget, *, expected_bytes: int, wanted: Set[str], now: float, one_memory: bool
) -> LoadPlan:
    """Return which models to close so that another one of `expected_bytes` may be read into RAM.

    `one_memory` is a device without memory of its own: there, every tier is RAM.
    """
    idle = [model for model in held.models if not model.rendering]
    tiers = ram_tiers(one_memory=one_memory)
    in_ram = held.ram_bytes + (held.vram_bytes if one_memory else 0)
    over_bytes = 0 if budget.ram_bytes is None else max(0, in_ram + expected_bytes - budget.ram_bytes)
    over_count = 0 if budget.max_models is None else max(0, len(held.models) + 1 - budget.max_models)
    candidates = [
        Candidate(
            what=model.key,
            bytes=model.bytes_in(*tiers, own=True),
            idle_seconds=now - model.used_at,
            return_seconds=model.load_seconds,
            wanted=model.key in wanted,
        )
        for model in idle
    ]
    close = choose(candidates, over_bytes, over_count)
    freed = sum(each.bytes for each in candidates if each.what in close)
    return LoadPlan(tuple(close), freed >= over_bytes and len(close) >= over_count)


def ram_tiers(*, one_memory: bool) -> tuple[WeightTier, ...]:
    """Return the tiers whose weights are in RAM."""
    return (WeightTier.RAM, WeightTier.VRAM) if one_memory else (WeightTier.RAM,)


def expired(model: HeldModel, *, ram_keep_alive: float, now: float) -> WeightTier:
    """Return the nearest tier that an idle model's time still allows.

    After `keep_alive` idle seconds it leaves the device, and after `ram_keep_alive` more the RAM.
    """
    if model.rendering or model.keep_alive < 0 or now - model.used_at < model.keep_alive:
        return WeightTier.VRAM
    if ram_keep_alive < 0 or now - model.used_at < model.keep_alive + ram_keep_alive:
        return WeightTier.RAM
    return WeightTier.DISK


OVERDUE_SECONDS = 1.0
"""After which weights that should have left are looked at again."""


def next_expiry(models: Sequence[HeldModel], *, ram_keep_alive: float, now: float) -> float | None:
    """Return the seconds until some idle model's time is over; None if none has an end.

    Weights whose time near the GPU is over and that are there still (somebody waited for them, or another
    model shares them) are looked at again soon.
    """
    ends = []
    for model in models:
        if model.rendering or model.keep_alive < 0:
            continue
        idle = now - model.used_at
        if idle < model.keep_alive:
            ends.append(model.keep_alive - idle)
            continue
        if any(part.bytes and part.tier is WeightTier.VRAM for part in model.parts):
            ends.append(OVERDUE_SECONDS)
        if ram_keep_alive >= 0:
            ends.append(max(0.0, model.keep_alive + ram_keep_alive - idle))
    return min(ends, default=None)
