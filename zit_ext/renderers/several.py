"""Renders on several devices of this process. Each has a line, a thread and weights of its own.

A request goes where its answer will be there first: usually where its model is already; to another device
when the line there has grown longer than reading the weights once more takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import QueueFullError
from ..models.holdings import Holdings
from ..models.ledger import Ledger
from ..pipeline import Pipeline, Rendered, Watcher
from ..records import ModelRef, Request
from ..settings import Settings
from .local import LocalRenderer, Outlook

USUAL_LOAD_SECONDS = 30.0
"""How long reading weights takes, before it was seen."""


def renderer_of(
    settings: Settings,
    *,
    open_pipeline: Callable[[ModelRef], Pipeline],
    make_room: Callable[[int, str], int],
    ledger: Callable[[], Ledger] | None = None,
) -> HereRenderer:
    """Return who renders in this process: on the device of the settings, or on each of several."""
    devices = [each.strip() for each in settings.device.split(",") if each.strip()]
    renderers = [
        LocalRenderer(
            replace(settings, device=device),
            open_pipeline=open_pipeline,
            make_room=make_room,
            ledger=ledger() if ledger is not None else None,
        )
        for device in dict.fromkeys(devices or ["auto"])
    ]
    return renderers[0] if len(renderers) == 1 else SeveralDevices(renderers)


@dataclass(frozen=True, slots=True)
class SeveralDevices:
    """The doors of `LocalRenderer`, for all of its devices together."""

    renderers: Sequence[LocalRenderer]

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        """Return the answer to one request, from the device that will have it first.

        Raises what that device's renderer raises; QueueFullError only where all lines are full.
        """
        refused: list[QueueFullError] = []
        for renderer in self._best_first(request.model):
            try:
                return await renderer.render(request, watcher)
            except QueueFullError as error:
                refused.append(error)
        raise min(refused, key=lambda each: each.retry_after)

    async def preload(self, model: ModelRef) -> None:
        """Have the model's weights on the device that would be asked for it next."""
        await self._best_first(model)[0].preload(model)

    async def unload(self, model: ModelRef) -> bool:
        """Let go of the model's weights on all devices; say whether any were held."""
        return any(await asyncio.gather(*(each.unload(model) for each in self.renderers)))

    async def unload_all(self) -> int:
        """Let go of all weights; return how many models were held, one on two devices twice."""
        return sum(await asyncio.gather(*(each.unload_all() for each in self.renderers)))

    async def give_back(self, wanted_bytes: int) -> int:
        """Move idle weights off each device until so many bytes of it are freed; return how many were."""
        return sum(await asyncio.gather(*(each.give_back(wanted_bytes) for each in self.renderers)))

    def give_back_blocking(self, wanted_bytes: int, patience: float = 1.0) -> int:
        """`give_back` for a host's thread, which gets an answer within so many seconds for each device."""
        return sum(each.give_back_blocking(wanted_bytes, patience) for each in self.renderers)

    async def park_all(self) -> None:
        """Move all weights off all devices into RAM."""
        await asyncio.gather(*(each.park_all() for each in self.renderers))

    def holdings(self) -> Holdings:
        """Return what all devices hold and do at this moment. From any thread."""
        each = [renderer.holdings() for renderer in self.renderers]
        return Holdings(
            device=", ".join(one.device for one in each),
            models=tuple(model for one in each for model in one.models),
            vram_bytes=sum(one.vram_bytes for one in each),
            ram_bytes=sum(one.ram_bytes for one in each),
            loads=sum(one.loads for one in each),
            load_seconds=sum(one.load_seconds for one in each),
            renders=sum(one.renders for one in each),
            queued=sum(one.queued for one in each),
            running=", ".join(one.running for one in each if one.running) or None,
            loading=", ".join(one.loading for one in each if one.loading) or None,
            waiting=tuple(source for one in each for source in one.waiting),
        )

    async def close(self, patience: float = 30.0) -> None:
        """Close the renderers of all devices. Twice is fine."""
        await asyncio.gather(*(each.close(patience) for each in self.renderers))

    def _best_first(self, model: ModelRef) -> list[LocalRenderer]:
        outlooks = [renderer.outlook(model) for renderer in self.renderers]
        return [self.renderers[index] for index in by_expected_wait(outlooks)]


HereRenderer = LocalRenderer | SeveralDevices
InThisProcess = (LocalRenderer, SeveralDevices)
"""The renderers that hold their weights here, for `isinstance`."""


def by_expected_wait(outlooks: Sequence[Outlook]) -> list[int]:
    """Return the numbers of the devices, the one that will answer first before the others. Pure.

    >>> here, elsewhere = Outlook(True, 3.0, 8.0, 1), Outlook(False, 0.0, None, 0)
    >>> by_expected_wait([elsewhere, here])
    [1, 0]
    """
    seen = [each.load_seconds for each in outlooks if each.load_seconds is not None]
    load = max(seen, default=USUAL_LOAD_SECONDS)

    def wait(number: int) -> tuple[float, int]:
        each = outlooks[number]
        # Among devices that would have to read the weights, the one that holds fewer models.
        return each.wait_seconds + (0.0 if each.has_weights else load), each.models

    return sorted(range(len(outlooks)), key=wait)
