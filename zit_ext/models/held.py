"""What the holder remembers of the weights it holds. Changed on the device's own thread only."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..pipeline import Pipeline, WeightTier
from ..records import ModelRef, Request
from .budget import WorkingMemory
from .holdings import HeldModel, HeldPart, weights_key


@dataclass(slots=True, eq=False)
class Weights:
    """One part's weights, held once: by one model, or by several that share them."""

    bytes: int
    identity: str
    used_at: float
    tier: WeightTier = WeightTier.RAM
    leases: int = 0
    move_seconds: float = 0.0
    owners: list[tuple[Held, str]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Held:
    """One opened pipeline, and what is known of it."""

    key: str
    model: ModelRef
    pipeline: Pipeline
    used_at: float
    keep_alive: float
    load_seconds: float
    parts: dict[str, Weights] = field(default_factory=dict)
    working: dict[tuple[str, ...], WorkingMemory] = field(default_factory=dict)
    """What is known of each stage, by the parts that it leases."""
    unseen: WorkingMemory = WorkingMemory()
    """What is expected of a stage that was not seen yet."""
    rendering: bool = False
    lent: set[str] = field(default_factory=set)
    """Parts that the render which runs now has had already; it may still want the others."""
    lost: bool = False
    """Where one of its parts is, nobody knows any more: it must not render again."""

    def expecting(self, parts: tuple[str, ...], request: Request) -> int:
        """Return the bytes that a stage needs beside its weights, about."""
        return self.working.get(parts, self.unseen).expecting(request)

    def seen(self, parts: tuple[str, ...], request: Request, used_bytes: int) -> None:
        """Remember what a stage used beside its weights."""
        known = self.working.get(parts, self.unseen)
        self.working[parts] = known.having_seen(request, used_bytes)

    def ran_out_of_memory(self) -> None:
        """Expect more: of all stages, since nobody knows which it was."""
        self.unseen = self.unseen.after_out_of_memory()
        self.working = {parts: each.after_out_of_memory() for parts, each in self.working.items()}

    def still_wants(self, part: str) -> bool:
        """Say whether a render runs that has not had this part yet."""
        return self.rendering and part not in self.lent


def outdated(held: Held, model: ModelRef) -> bool:
    """Say whether these are older weights of the same files, put to the same use."""
    older = held.model
    return (
        held.key != weights_key(model)
        and bool(model.identity)
        and older.path == model.path
        and (older.source, older.dtype, older.attention, older.vae_tiling, older.offload)
        == (model.source, model.dtype, model.attention, model.vae_tiling, model.offload)
        and _sources(older) == _sources(model)
    )


def _sources(model: ModelRef) -> dict[str, str]:
    return {name: part.source for name, part in model.parts.items()}


def described(held: Held) -> HeldModel:
    """Return a frozen record of it as it is now."""
    return HeldModel(
        key=held.key,
        source=held.model.source,
        parts=tuple(
            HeldPart(
                name=name,
                bytes=each.bytes,
                tier=each.tier,
                leases=each.leases,
                shared=len(each.owners) > 1,
            )
            for name, each in held.parts.items()
        ),
        rendering=held.rendering,
        used_at=held.used_at,
        keep_alive=held.keep_alive,
        load_seconds=held.load_seconds,
    )
