"""Where the parts of one pipeline are, and the low-memory modes.

- `none`: parts move when the holder says so, and stay until it says otherwise.
- `model`: a part is on the device while its stage runs and in RAM otherwise: what diffusers calls
  model CPU offload. The largest part must fit.
- `group`: text encoder and transformer stay in RAM, and diffusers' group offloading brings a few
  layers at a time to the device, and back: slow, and a few hundred megabytes are enough. They are
  not leased: they take no room to speak of. The VAE is small and moves like `model`.

The pixels are equal in all of them. On the CPU there is one place only, and all of them are `none`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..pipeline import WeightTier
from .zimage_checkpoints import TEXT_ENCODER, TRANSFORMER

STREAMED: Mapping[str, str] = {TEXT_ENCODER: "leaf_level", TRANSFORMER: "block_level"}
"""The parts that pass through the device in groups, and how diffusers makes the groups."""


class Placement:
    """Moves the modules of one pipeline between RAM and a device."""

    def __init__(self, modules: Mapping[str, Any], device: str, offload: str) -> None:
        self._modules = modules
        self._device = device
        self._offload = offload if device != "cpu" else "none"
        self._streamed: frozenset[str] = frozenset()
        if self._offload == "group":
            stream_in_groups(modules, device)
            self._streamed = frozenset(STREAMED)

    def streams(self, part: str) -> bool:
        """Say whether the part stays in RAM and passes through the device a few layers at a time."""
        return part in self._streamed

    def move(self, part: str, tier: WeightTier) -> None:
        """Do what the holder says, as far as the mode leaves it to the holder."""
        if self._offload == "none":
            self._put(part, self._device if tier is WeightTier.VRAM else "cpu")

    @contextmanager
    def on_device(self, *parts: str) -> Iterator[None]:
        """Have the parts where they compute while a stage runs."""
        try:
            for part in parts:
                self._put(part, self._device)
            yield
        finally:
            if self._offload != "none":
                for part in parts:
                    self._put(part, "cpu")

    def clean_up(self) -> None:
        """Take the hooks of the low-memory modes off the modules."""
        if self._streamed:
            stop_streaming(self._modules)
        self._streamed = frozenset()

    def _put(self, part: str, where: str) -> None:
        module = self._modules[part]
        # All of it, and not its first tensor: a move that failed half way left the rest where it was.
        if part not in self._streamed and _places_of(module) != {where}:
            module.to(where)


def stream_in_groups(modules: Mapping[str, Any], device: str) -> None:
    """Have the large modules stay in RAM and pass through the device a few layers at a time."""
    import torch
    from diffusers.hooks import apply_group_offloading

    for part, kind in STREAMED.items():
        apply_group_offloading(
            modules[part],
            onload_device=torch.device(device),
            offload_device=torch.device("cpu"),
            offload_type=kind,
            num_blocks_per_group=1 if kind == "block_level" else None,
        )


def stop_streaming(modules: Mapping[str, Any]) -> None:
    """Take back what `stream_in_groups` did. The modules are in RAM."""
    from diffusers.hooks.hooks import HookRegistry

    for part in STREAMED:
        for module in modules[part].modules():
            registry = getattr(module, "_diffusers_hook", None)
            if isinstance(registry, HookRegistry):
                registry.remove_hook("group_offloading", recurse=False)


def _places_of(module: Any) -> set[str]:
    return {str(each.device) for each in (*module.parameters(), *module.buffers())}
