"""Our weights as the host's memory manager sees them: one of the models that it may put aside.

The host frees only what stands in its list of loaded models. So while our weights are on the device, one
entry of ours stands there. It moves nothing itself: asked for room, it has the holder park idle parts,
the least dear first, and what renders just then is parked after its stage.
"""

from __future__ import annotations

from typing import Any

from zit_ext.renderers.local import LocalRenderer
from zit_ext.renderers.several import SeveralDevices

from . import host

PATIENCE = 30.0
"""Seconds that the host waits for weights to leave: 12 GB over a slow bus."""


class OurWeights(host.ModelPatcher):
    """Stands for all that one renderer holds on the device."""

    def __init__(self, renderer: LocalRenderer, device: Any) -> None:
        super().__init__(host.torch.nn.Module(), device, host.torch.device("cpu"))
        self._renderer = renderer

    def is_of(self, renderer: LocalRenderer, device: Any) -> bool:
        return self._renderer is renderer and self.load_device == device

    def is_dynamic(self) -> bool:
        return False

    def model_size(self) -> int:
        return self._renderer.holdings().vram_bytes

    def loaded_size(self) -> int:
        return self.model_size()

    def current_loaded_device(self) -> Any:
        return self.load_device

    def lowvram_patch_counter(self) -> int:
        return 0

    def partially_load(self, device_to: Any, extra_memory: int = 0, force_patch_weights: bool = False) -> int:
        return 0  # the holder moves them, when a stage needs them

    def partially_unload(
        self, device_to: Any, memory_to_free: int = 0, force_patch_weights: bool = False
    ) -> int:
        return self._renderer.give_back_blocking(int(memory_to_free), PATIENCE)

    def detach(self, unpatch_all: bool = True) -> Any:
        if unpatch_all:  # without it, the host only puts its list in order
            self._renderer.give_back_blocking(max(1, self.model_size()), PATIENCE)
        return self.model


class Manners:
    """What the host and we do for each other before weights move."""

    def __init__(self) -> None:
        self._ours: dict[str, OurWeights] = {}

    def make_room(self, renderer: Any, bytes_needed: int, device: str) -> int:
        """Have the host put its own models aside, and enter ours in its list; return the bytes freed."""
        place = _place(device)
        ours = self._of(renderer, device, place)
        before = host.model_management.get_free_memory(place)
        host.model_management.free_memory(bytes_needed, place, keep_loaded=_entries(ours))
        if ours is not None and not _entries(ours):
            entry = host.model_management.LoadedModel(ours)
            entry.model_load()
            host.model_management.current_loaded_models.insert(0, entry)
        return max(0, int(host.model_management.get_free_memory(place) - before))

    def _of(self, renderer: Any, device: str, place: Any) -> OurWeights | None:
        """Return what stands for our weights on this device; None if another process holds them."""
        if isinstance(renderer, SeveralDevices):
            renderer = next((each for each in renderer.renderers if each.holdings().device == device), None)
        if not isinstance(renderer, LocalRenderer):
            return None
        known = self._ours.get(device)
        if known is None or not known.is_of(renderer, place):
            known = self._ours[device] = OurWeights(renderer, place)
        return known


def _place(device: str) -> Any:
    """Return the device as the host names it: "cuda" is the one that it uses itself."""
    own = host.model_management.get_torch_device()
    return host.torch.device(device) if ":" in device else own


def _entries(ours: OurWeights | None) -> list[Any]:
    loaded = host.model_management.current_loaded_models
    return [entry for entry in loaded if ours is not None and entry.model is ours]
