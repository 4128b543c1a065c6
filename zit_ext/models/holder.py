"""Keeps weights near the device and lends them out, part by part. Knows no torch, no loop, no queue.

Everything here happens on the device's own thread. So finding a part, moving it and pinning it is one
step, and nothing needs a lock. What others want to know is in `snapshot`, a frozen record.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Set

from ..errors import OutOfMemoryError
from ..pipeline import Part, Pipeline, Rendered, SharesParts, Watcher, WeightTier, checked
from ..records import ModelRef, Request
from . import placement
from .budget import Budget
from .device_memory import DeviceMemory, available_ram
from .held import Held, Weights, described, outdated
from .holdings import Holdings, alike, weights_key
from .leases import Lending

log = logging.getLogger(__name__)

_BYTES_PER_SECOND = 6e9
"""How fast a part moves, before it was seen moving."""


class Holder:
    """The weights on one device, and behind it in RAM. Idle parts make room; leased ones never move."""

    def __init__(
        self,
        *,
        budget: Budget,
        memory: DeviceMemory,
        make_room: Callable[[int, str], int],
        keep_alive: Callable[[ModelRef], float],
        ram_keep_alive: float,
        clock: Callable[[], float] = time.time,
        free_ram: Callable[[], int | None] = available_ram,
        between_stages: Callable[[], None] = lambda: None,
    ) -> None:
        self.budget = budget
        self.memory = memory
        self.ram_keep_alive = ram_keep_alive
        self._make_room = make_room
        self._keep_alive = keep_alive
        self._clock = clock
        self._free_ram = free_ram
        self._between_stages = between_stages
        self._held: dict[str, Held] = {}
        self._owed_bytes = 0
        self.snapshot = Holdings(device=memory.device)
        """What is held, as of the last change. Any thread may read it."""

    def adopt(self, model: ModelRef, pipeline: Pipeline, load_seconds: float) -> None:
        """Take over a pipeline that was just opened, its parts in RAM.

        Parts that another model holds already are shared where both pipelines can. Older weights of
        the same files, and what the budget has no room for, are let go.
        """
        self.memory.resolve()
        key = weights_key(model)
        held = Held(key, model, pipeline, self._clock(), self._keep_alive(model), load_seconds)
        for part in pipeline.parts:
            held.parts[part.name] = self._shared(held, part) or Weights(
                part.bytes, part.identity, held.used_at
            )
        for name, weights in held.parts.items():
            weights.owners.append((held, name))
        self.close([other.key for other in self._held.values() if outdated(other, model)])
        self._held[key] = held
        self._keep_ram_within(0, sparing=held)
        self._publish()

    def render(self, key: str, request: Request, watcher: Watcher) -> Rendered | None:
        """Return the pipeline's answer, or None if these weights are not held (any more).

        While it renders, a model is not closed. What the pipeline raises is passed on.
        """
        held = self._held.get(key)
        if held is None:
            return None
        lending = Lending(
            held,
            bring=lambda parts: self._bring(held, parts, held.expecting(parts, request)),
            stage_ended=lambda parts: self._learn(held, parts, request),
            given_back=lambda parts: self._given_back(held, parts),
        )
        held.rendering = True
        held.lent.clear()
        usual = self._keep_alive(held.model)
        held.keep_alive = usual if request.keep_alive is None else request.keep_alive
        self._publish()
        try:
            return checked(held.pipeline.render(request, lending, watcher))
        finally:
            try:
                lending.end()
            finally:
                held.rendering = False
                held.used_at = self._clock()
                if held.lost:
                    self.close([key])
                self._publish()

    def settle(self, waited_for: Set[str]) -> None:
        """After a render: park what was asked for meanwhile, and come back within budget and time."""
        owed, self._owed_bytes = self._owed_bytes, 0
        self.park(owed)
        self._keep_ram_within(0)
        self.expire(waited_for)

    def expect_more(self, key: str) -> None:
        """Keep more memory free for this model's activations: they did not fit."""
        if held := self._held.get(key):
            held.ran_out_of_memory()

    def needed_bytes(self, key: str, request: Request) -> int:
        """Return what the largest stage of this request needs on the device, about."""
        held = self._held.get(key)
        if held is None:
            return 0
        largest = max((each.bytes for each in held.parts.values()), default=0)
        return largest + max(each.expecting(request) for each in (held.unseen, *held.working.values()))

    def warm(self, key: str) -> None:
        """Move a model's parts to the device, as far as they fit without anything else leaving it."""
        held = self._held.get(key)
        if held is None or held.model.offload != "none" or held.keep_alive == 0 or held.rendering:
            return
        held.used_at = self._clock()
        try:
            for name, weights in list(held.parts.items()):
                lack = self._shortfall(weights.bytes, held.unseen.expecting(_USUAL))
                if weights.tier is not WeightTier.RAM or lack:
                    continue
                self._make_room(weights.bytes, self.memory.device)
                if self._held.get(key) is not held:
                    return  # a host that was asked for room asked for some back, and this model had to go
                self._move(weights, held, name, WeightTier.VRAM)
        finally:
            self._publish()

    def park(self, wanted_bytes: int) -> int:
        """Move idle parts off the device until so many bytes are freed; return how many were.

        A render keeps the parts that it has not had yet: what lacks is parked after it, in `settle`.
        """
        before = self._in_vram()
        idle = [
            each
            for each in self._idle_parts()
            if not any(owner.still_wants(name) for owner, name in each.what.owners)
        ]
        for weights in placement.choose(idle, wanted_bytes):
            self._park(weights)
        self._publish()
        freed = before - self._in_vram()
        if any(held.rendering for held in self._held.values()):
            self._owed_bytes = max(self._owed_bytes, wanted_bytes - freed)
        return freed

    def park_idle(self) -> int:
        """Move everything idle off the device; return the bytes freed."""
        return self.park(self._in_vram())

    def clear_out(self, sparing: str) -> None:
        """Free all memory that can be freed, for a model that did not fit."""
        if self.memory.is_ram:
            self.close([key for key in self._held if key != sparing])
        self.park_idle()

    def close(self, keys: Iterable[str]) -> list[str]:
        """Let go of these models' weights, but of none that renders; return those that went."""
        gone = []
        for key in list(keys):
            held = self._held.get(key)
            if held is not None and not held.rendering:
                del self._held[key]
                self._close(held)
                gone.append(key)
        self._publish()
        return gone

    def close_like(self, model: ModelRef) -> list[str]:
        """Let go of the weights that the reference names: these files, or all of its source."""
        same = [held.key for held in self.snapshot.models if alike(held, model)]
        return self.close(same)

    def close_all(self) -> list[str]:
        """Let go of all weights but those of a model that renders; return the keys of what went."""
        return self.close(list(self._held))

    def expire(self, waited_for: Set[str] = frozenset()) -> None:
        """Park or close what was idle for longer than it may stay, if nobody waits for it."""
        now = self._clock()
        self._publish()
        tiers = {
            model.key: WeightTier.VRAM
            if model.key in waited_for
            else placement.expired(model, ram_keep_alive=self.ram_keep_alive, now=now)
            for model in self.snapshot.models
        }
        for weights in self._weights():
            if not weights.owners:
                continue  # to park another one, its model was let go
            allowed = max(tiers[owner.key] for owner, _ in weights.owners)
            if allowed < WeightTier.VRAM and weights.tier is WeightTier.VRAM and not weights.leases:
                self._park(weights)
        self.close([key for key, tier in tiers.items() if tier is WeightTier.DISK])

    # Lending to one render

    def _bring(self, held: Held, parts: tuple[str, ...], working: int) -> None:
        missing = [(name, held.parts[name]) for name in parts if held.parts[name].tier is not WeightTier.VRAM]
        # What the render will want besides leaves the RAM soon, too.
        leaving = sum(each.bytes for each in held.parts.values() if each.tier is WeightTier.RAM)
        self._free_vram(sum(weights.bytes for _, weights in missing), working, leaving)
        for name, weights in missing:
            self._move(weights, held, name, WeightTier.VRAM)
        self._publish()
        self.memory.begin_stage()

    def _given_back(self, held: Held, parts: tuple[str, ...]) -> None:
        """Let those have their turn who waited for a moment between two stages."""
        for weights in [held.parts[name] for name in parts]:
            weights.used_at = self._clock()
            # In a low-memory mode the pipeline takes a part off the device itself, after its stage.
            if held.model.offload != "none" and not weights.leases:
                with contextlib.suppress(Exception):  # logged; the stage is done, and its picture stays
                    self._park(weights)
        self._publish()
        self._between_stages()

    def _learn(self, held: Held, parts: tuple[str, ...], request: Request) -> None:
        """Remember how much the stage that just ended used beside the weights."""
        used = self.memory.stage_bytes()
        if used is not None and held.model.offload == "none":
            held.seen(parts, request, used)

    def _free_vram(self, needed: int, working: int, leaving: int) -> None:
        """Make room for `needed` bytes of weights. Raises OutOfMemoryError beyond the budget."""
        while lack := self._shortfall(needed, working):
            victims = placement.choose(self._idle_parts(), lack)
            if not victims:
                break
            for weights in victims:
                self._park(weights, leaving)
        limit = self.budget.vram_bytes
        if limit is not None and needed and self._in_vram() + needed > limit:
            free = max(0, limit - self._in_vram())
            raise OutOfMemoryError(needed=needed, free=free, device=self.memory.device)
        if needed:
            self._make_room(needed + working, self.memory.device)

    def _shortfall(self, needed: int, working: int) -> int:
        return placement.shortfall(
            needed=needed,
            working=working,
            in_vram=self._in_vram(),
            limit=self.budget.vram_bytes,
            free=self.memory.free(),
        )

    # Parking and closing

    def _park(self, weights: Weights, leaving: int = 0) -> None:
        """Move it to RAM, or let its model go. `leaving` bytes of others will leave the RAM for it."""
        if weights.tier is not WeightTier.VRAM:
            return
        owners = [owner for owner, _ in weights.owners]
        # During a swap RAM may hold more than its budget, if it really can: to close a model for those
        # seconds would cost reading it again. `settle` comes back within the budget.
        coming = weights.bytes - (leaving if (self._free_ram() or 0) > weights.bytes else 0)
        if not self.memory.is_ram and self._keep_ram_within(coming, sparing=owners[0]):
            # RAM has no room for it: it goes one tier further, with all of its model.
            self.close([owner.key for owner in owners])
        if not weights.owners:
            return
        owner, name = weights.owners[0]
        try:
            self._move(weights, owner, name, WeightTier.RAM)
        except Exception:
            # Nobody knows where it is now. It is let go, and read anew when wanted: what renders, after that.
            log.exception("parking %s of %r failed; the model is let go", name, owner.model.source)
            for each in owners:
                each.lost = True
            self.close([each.key for each in owners])
            if weights.owners:
                raise

    def _keep_ram_within(self, coming: int, sparing: Held | None = None) -> bool:
        """Close idle models until RAM holds what it may, and `coming` bytes; say whether it still lacks."""
        limit = self.budget.ram_bytes
        if limit is None:
            return False
        over = self._in_ram() + coming - limit
        if over > 0:
            self._publish()
            tiers = placement.ram_tiers(one_memory=self.memory.is_ram)
            now = self._clock()
            idle = [
                placement.Candidate(
                    what=model.key,
                    bytes=model.bytes_in(*tiers, own=True),
                    idle_seconds=now - model.used_at,
                    return_seconds=model.load_seconds,
                )
                for model in self.snapshot.models
                if not model.rendering and (sparing is None or model.key != sparing.key)
            ]
            self.close(placement.choose(idle, over))
        return self._in_ram() + coming > limit

    def _move(self, weights: Weights, through: Held, name: str, tier: WeightTier) -> None:
        started = time.perf_counter()
        try:
            through.pipeline.move(name, tier)
        except BaseException:
            if tier is WeightTier.VRAM:
                # A half of it may be there: it must not stay, uncounted.
                through.pipeline.move(name, WeightTier.RAM)
            raise
        weights.move_seconds = max(time.perf_counter() - started, weights.bytes / _BYTES_PER_SECOND)
        weights.tier = tier
        weights.used_at = self._clock()

    def _close(self, held: Held) -> None:
        for weights in held.parts.values():
            weights.owners = [(owner, name) for owner, name in weights.owners if owner is not held]
            if not weights.owners:
                weights.tier = WeightTier.DISK
        held.parts.clear()
        try:
            held.pipeline.close()
        except Exception:
            log.exception("closing %r failed; its memory may not come back", held.model.source)

    def _shared(self, held: Held, part: Part) -> Weights | None:
        """Return weights that another pipeline holds and that this one could use in place of its own."""
        if not isinstance(held.pipeline, SharesParts):
            return None
        for other in self._held.values():
            weights = other.parts.get(part.name)
            if weights is None or weights.identity != part.identity or other.lost:
                continue
            if held.pipeline.adopt(part.name, other.pipeline):
                return weights
        return None

    # Counting

    def _weights(self) -> list[Weights]:
        return list({id(each): each for held in self._held.values() for each in held.parts.values()}.values())

    def _in_vram(self) -> int:
        return sum(each.bytes for each in self._weights() if each.tier is WeightTier.VRAM)

    def _in_ram(self) -> int:
        tiers = placement.ram_tiers(one_memory=self.memory.is_ram)
        return sum(each.bytes for each in self._weights() if each.tier in tiers)

    def _idle_parts(self) -> list[placement.Candidate[Weights]]:
        now = self._clock()
        return [
            placement.Candidate(
                what=each,
                bytes=each.bytes,
                idle_seconds=now - each.used_at,
                return_seconds=each.move_seconds or each.bytes / _BYTES_PER_SECOND,
            )
            for each in self._weights()
            if each.tier is WeightTier.VRAM and not each.leases
        ]

    def _publish(self) -> None:
        self.snapshot = Holdings(
            device=self.memory.device,
            models=tuple(described(held) for held in self._held.values()),
            vram_bytes=self._in_vram(),
            ram_bytes=sum(each.bytes for each in self._weights() if each.tier is WeightTier.RAM),
        )


_USUAL = Request(prompt="", seed=0)
