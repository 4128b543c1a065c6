"""What is held where, as frozen records: for the CLI, both hosts, logs and the decisions about room."""

from __future__ import annotations

from dataclasses import dataclass

from ..pipeline import WeightTier
from ..records import FileRef, ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPart:
    """One part of a held model."""

    name: str
    bytes: int
    tier: WeightTier
    leases: int = 0
    shared: bool = False
    """Another held model uses these very weights: they are held, and counted, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """One set of weights that this process holds."""

    key: str
    """Names the weights and how they are put to use; equal keys are one pipeline."""
    source: str
    parts: tuple[HeldPart, ...]
    rendering: bool = False
    used_at: float
    """Unix seconds."""
    keep_alive: float
    """Seconds that it stays near the device after its last use; -1 is for ever."""
    load_seconds: float = 0.0

    def bytes_in(self, *tiers: WeightTier, own: bool = False) -> int:
        """Return the bytes of its parts in these tiers; of those it shares with nobody, if `own`."""
        return sum(part.bytes for part in self.parts if part.tier in tiers and not (own and part.shared))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """A moment of one device: what it holds and what it does."""

    device: str
    models: tuple[HeldModel, ...] = ()
    vram_bytes: int = 0
    """Of weights on the device, shared ones once."""
    ram_bytes: int = 0
    """Of weights parked in RAM, shared ones once."""
    loads: int = 0
    """How often weights were read, since this process started."""
    load_seconds: float = 0.0
    renders: int = 0
    queued: int = 0
    running: str | None = None
    """Source of the model that renders now."""
    loading: str | None = None
    """Source of the model that is being read now."""
    waiting: tuple[str, ...] = ()
    """Sources of the models that somebody preloads, and whose turn has not come."""


def weights_key(model: ModelRef) -> str:
    """Return the name of these weights and of how they are put to use.

    Requests with equal keys render on one pipeline. LoRAs are no part of it: they are put on and
    taken off. A reference that nobody resolved goes by its source.

    >>> weights_key(ModelRef(source="a")) == weights_key(ModelRef(source="a", vae_tiling=True))
    False
    """
    files = [_file_key(each) for each in (model, model.text_encoder, model.vae, model.tokenizer)]
    return "|".join([*files, model.dtype, model.attention, str(model.vae_tiling), model.offload])


def alike(held: HeldModel, model: ModelRef) -> bool:
    """Say whether the reference names these weights: by their files, or by source if that is all it has."""
    return held.key == weights_key(model) or (not model.identity and held.source == model.source)


def _file_key(ref: FileRef | None) -> str:
    return "" if ref is None else ref.identity or ref.source
