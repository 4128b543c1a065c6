"""The holder against anything that may happen to it, in any order: what it says of the weights is true."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from random import Random

import pytest

from zit_ext.errors import OutOfMemoryError
from zit_ext.models.budget import Budget
from zit_ext.models.device_memory import DeviceMemory
from zit_ext.models.held import Held
from zit_ext.models.holder import Holder
from zit_ext.models.holdings import weights_key
from zit_ext.pipeline import Part, Rendered, WeightTier
from zit_ext.records import ModelRef
from zit_ext.testing import FAKE_ENVIRONMENT, FakeClock, QuietWatcher, fake_content, make_request

SIZES = {"encoder": 40, "transformer": 60, "vae": 5}
NAMES = ("a", "b", "c")
VRAM = 110


def ref(name: str) -> ModelRef:
    """Return the model of this name; one of them leaves the device after each stage."""
    return ModelRef(source=name, offload="model" if name == "c" else "none")


class BrokenError(Exception):
    """What a pipeline, a driver or a plugin may raise."""


class Box:
    """The bytes of one part, wherever they are. Pipelines may share it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.tier = WeightTier.RAM
        self.users: set[Weights] = set()


class Weights:
    """A pipeline that knows where its parts are, and what may not be done to them."""

    def __init__(self, world: World, name: str, shares: bool) -> None:
        self.world = world
        self.boxes = {part: Box(size) for part, size in SIZES.items()}
        for box in self.boxes.values():
            box.users.add(self)
        self.parts = [
            Part(part, size, "common" if part == "encoder" and shares else f"{name}:{part}")
            for part, size in SIZES.items()
        ]
        self.closed = False
        self.leased: set[Box] = set()
        self.script: list[tuple[str, ...]] = []
        self.fails_after: int | None = None

    def adopt(self, part: str, other: Weights) -> bool:
        assert not other.closed, "weights of a closed pipeline were shared"
        self.boxes[part].users.discard(self)
        self.boxes[part] = other.boxes[part]
        self.boxes[part].users.add(self)
        return True

    def move(self, part: str, tier: WeightTier) -> None:
        box = self.boxes[part]
        assert not self.closed, "a closed pipeline was moved"
        assert not any(box in user.leased for user in box.users), "a leased part was moved"
        if self.world.failing:
            self.world.failing -= 1
            raise BrokenError("the driver")
        box.tier = tier

    def render(self, request, lease, watcher) -> Rendered:
        with ExitStack() as leases:
            for number, parts in enumerate(self.script):
                if number == self.fails_after:
                    raise BrokenError("the pipeline")
                stage = leases if parts[-1:] == ("kept",) else ExitStack()
                with stage if stage is not leases else ExitStack():
                    named = tuple(part for part in parts if part != "kept")
                    stage.enter_context(lease(*named))
                    boxes = {self.boxes[part] for part in named}
                    assert all(box.tier is WeightTier.VRAM for box in boxes), "a stage ran without its part"
                    assert self.world.used() <= VRAM, "the budget was exceeded"
                    new = boxes - self.leased
                    self.leased |= new
                    if stage is leases:
                        stage.callback(self.leased.difference_update, new)
                    else:
                        self.leased -= new
            if self.fails_after == len(self.script):
                leak = lease("vae")
                leak.__enter__()
                self.world.leaks.append(leak)
        return Rendered(fake_content(request), 1.0, FAKE_ENVIRONMENT)

    def close(self) -> None:
        self.closed = True
        for box in self.boxes.values():
            box.users.discard(self)


class World:
    """A holder, and everybody who may ask something of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.told: list[str] = []
        """What was done, for whoever reads a failure."""
        self.clock = FakeClock(1000.0)
        self.failing = 0
        self.leaks: list[object] = []
        self.made: list[Weights] = []
        self.between: list[tuple[str, str, int]] = []
        self.asked: list[int] = []
        self.holder = Holder(
            budget=Budget(vram_bytes=VRAM, ram_bytes=150, max_models=None),
            memory=DeviceMemory("cuda:0", lambda: 10**12),
            make_room=self.make_room,
            keep_alive=lambda model: 10.0,
            ram_keep_alive=10.0,
            clock=self.clock,
            free_ram=lambda: 0,
            between_stages=self.between_stages,
        )

    def used(self) -> int:
        boxes = {box for each in self.made for box in each.boxes.values() if box.users}
        return sum(box.size for box in boxes if box.tier is WeightTier.VRAM)

    # What others do while the holder is at work

    def make_room(self, needed: int, device: str) -> int:
        """A host that is asked for room asks for some back."""
        return self.holder.park(self.asked.pop()) if self.asked else 0

    def between_stages(self) -> None:
        while self.between:
            with suppress(BrokenError):  # whoever asked hears of it, and the render does not
                self.do(*self.between.pop())

    def do(self, what: str, name: str, number: int) -> None:
        self.told.append(f"{what} {name} {number}")
        model = ref(name)
        key = weights_key(model)
        if what == "adopt":
            if key not in self.holder._held:
                self.made.append(Weights(self, name, shares=number % 3 > 0))
                self.holder.adopt(model, self.made[-1], 5.0)
        elif what == "close":
            self.holder.close([key])
        elif what == "park":
            self.holder.park(number)
        elif what == "warm":
            self.holder.warm(key)
        else:
            self.clock.advance(number / 5)
            self.holder.expire(frozenset({key}) if number % 2 else frozenset())

    def anything(self) -> tuple[str, str, int]:
        what = self.random.choice(["adopt", "adopt", "close", "park", "warm", "expire"])
        return what, self.random.choice(NAMES), self.random.randint(0, 120)

    # What happens

    def step(self) -> None:
        """Let one thing happen: most often a render, in the middle of which other things do."""
        luck = self.random.random
        self.asked = [self.random.randint(0, 120) for _ in range(2)] if luck() < 0.3 else []
        self.failing = 1 if luck() < 0.1 else 0
        try:
            if luck() < 0.4:
                self.render(self.random.choice(NAMES))
            elif luck() < 0.02:
                self.told.append("everything goes")
                self.holder.close_all()
                assert self.holder.snapshot.models == ()
            else:
                with suppress(BrokenError):
                    self.do(*self.anything())
        finally:
            self.asked, self.failing, self.between = [], 0, []

    def render(self, name: str) -> None:
        key = weights_key(ref(name))
        held = self.holder._held.get(key)
        if held is None:
            assert self.holder.render(key, make_request(), QuietWatcher()) is None
            return
        whole = [("encoder",), ("transformer",), ("vae",)]
        odd = [*whole, ("transformer", "vae"), ("vae", "kept")]
        few = self.random.randint(0, 5)
        held.pipeline.script = (
            whole if self.random.random() < 0.6 else [self.random.choice(odd) for _ in range(few)]
        )
        held.pipeline.fails_after = self.random.choice([None, None, None, 0, 1, 2, 3])
        self.between = [self.anything() for _ in range(self.random.choice([0, 0, 1, 2, 3]))]
        self.told.append(f"render {name} {held.pipeline.script} {held.pipeline.fails_after} {self.asked}")
        with suppress(BrokenError, OutOfMemoryError):
            self.holder.render(key, make_request(), QuietWatcher())
        held.pipeline.leased.clear()
        with suppress(BrokenError):
            self.holder.settle(frozenset())

    # What is always true

    def nothing_is_lent_while_nothing_renders(self) -> None:
        assert not any(held.rendering for held in self.holder._held.values())
        assert not any(each.leases for each in self.holder._weights())

    def what_is_held_is_open_and_what_is_not_is_closed(self) -> None:
        held = {held.pipeline for held in self.holder._held.values()}
        assert all(each.closed is (each not in held) for each in self.made)

    def every_part_is_where_the_holder_says(self) -> None:
        for held in self.holder._held.values():
            self.check(held)
        snapshot = self.holder.snapshot
        assert snapshot.vram_bytes == self.used() <= VRAM
        assert {each.key for each in snapshot.models} == set(self.holder._held)

    def check(self, held: Held) -> None:
        for name, weights in held.parts.items():
            assert weights.tier is held.pipeline.boxes[name].tier
            assert (held, name) in weights.owners
            assert all(owner.parts[other] is weights for owner, other in weights.owners)

    def check_all(self) -> None:
        self.nothing_is_lent_while_nothing_renders()
        self.what_is_held_is_open_and_what_is_not_is_closed()
        self.every_part_is_where_the_holder_says()


@pytest.mark.parametrize("seed", range(40))
def test_what_the_holder_says_is_true_whatever_happens(seed):
    world = World(seed)
    try:
        for _ in range(300):
            world.step()
            world.check_all()
    except BaseException:
        print(*world.told[-15:], sep="\n")
        raise
