"""Parts and not models: what does not fit whole is lent stage by stage."""

import asyncio

import pytest

from tests.holder.shelf import ZIMAGE, DevicePipeline, ask, quiet, until
from zit_ext.errors import ModelError, OutOfMemoryError
from zit_ext.pipeline import Rendered, WeightTier
from zit_ext.records import ModelRef
from zit_ext.testing import fake_content, make_request

GIB = 1024**3


def near(renderer):
    return {
        f"{model.source}:{part.name}"
        for model in renderer.holdings().models
        for part in model.parts
        if part.tier is WeightTier.VRAM
    }


async def test_twenty_gigabytes_serve_a_card_of_twelve(renderer_with, shelf):
    shelf.sizes = ZIMAGE
    shelf.device.total = 12 * GIB
    renderer = renderer_with(vram_bytes=12 * GIB)
    for seed in range(3):
        await renderer.render(ask(seed=seed), quiet())
    assert len(shelf.opened) == 1
    assert ZIMAGE["transformer"] <= shelf.device.most <= 12 * GIB


async def test_without_a_budget_what_is_free_is_the_budget(renderer_with, shelf):
    shelf.sizes = ZIMAGE
    shelf.device.total = 16 * GIB
    renderer = renderer_with(free_memory=shelf.device.free)
    await renderer.render(ask(), quiet())
    await renderer.render(ask(seed=2), quiet())
    assert shelf.device.most <= 16 * GIB
    assert len(shelf.opened) == 1


async def test_on_a_large_card_nothing_moves_twice(renderer_with, shelf):
    shelf.sizes = ZIMAGE
    shelf.device.total = 80 * GIB
    renderer = renderer_with(free_memory=shelf.device.free)
    for source in ("a", "b", "a", "b"):
        await renderer.render(ask(source), quiet())
    assert [len(shelf.pipeline(source).moves) for source in "ab"] == [3, 3]
    assert len(near(renderer)) == 6


async def test_one_models_encoder_may_sit_beside_anothers_transformer(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=120)  # 40 + 60 + 1 each
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    assert {source.split(":")[0] for source in near(renderer)} == {"a", "b"}


async def test_working_memory_is_kept_free_for_the_picture_that_is_asked_for(renderer_with, shelf):
    shelf.sizes = {"text_encoder": 4 * GIB, "transformer": 4 * GIB, "vae": GIB}
    shelf.device.total = 12 * GIB
    least = []
    renderer = renderer_with(free_memory=shelf.device.free)

    class Watching(DevicePipeline):
        def wait(self, watcher):
            least.append(self.device.free())
            super().wait(watcher)

    shelf.kind = Watching
    await renderer.render(ask(width=1024, height=1024), quiet())
    small, least[:] = min(least), []
    await renderer.render(ask(width=2048, height=2048), quiet())
    assert small >= 2 * GIB
    assert min(least) >= 7 * GIB


async def test_a_part_that_can_never_fit_is_an_error_with_numbers(renderer_with):
    renderer = renderer_with(vram_bytes=50)
    with pytest.raises(OutOfMemoryError) as caught:
        await renderer.render(ask(), quiet())
    assert (caught.value.needed, caught.value.free, caught.value.device) == (60, 50, "cuda:0")


async def test_the_host_is_asked_for_room_before_weights_move_and_only_then(renderer_with, shelf):
    asked = []
    renderer = renderer_with(make_room=lambda wanted, device: asked.append((wanted, device)) or 0)
    await renderer.render(ask(), quiet())
    assert len(asked) == 3
    assert all(device == "cuda:0" and wanted >= 1 for wanted, device in asked)
    await renderer.render(ask(seed=2), quiet())
    assert len(asked) == 3


async def test_leased_parts_never_move(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=105)
    asked = []

    class Nested(DevicePipeline):
        def render(self, request, lease, watcher):
            with lease("transformer"), lease("vae"):
                asked.append(renderer.give_back_blocking(10**9))
                assert self.tiers["transformer"] is WeightTier.VRAM
                assert self.tiers["vae"] is WeightTier.VRAM
            return super().render(request, lease, watcher)

    shelf.kind = Nested
    await renderer.render(ask(), quiet())
    await renderer.render(ask(seed=2), quiet())
    assert asked[0] == 0, "nothing was idle"
    assert asked[1] == 0 or asked[1] == 40, "at most the idle encoder"


async def test_leases_are_counted_and_seen(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until(lambda: any(part.leases for part in renderer.holdings().models[0].parts))
    assert renderer.holdings().models[0].rendering
    pipeline.gate.set()
    await rendering
    assert not any(part.leases for part in renderer.holdings().models[0].parts)


async def test_what_a_pipeline_forgets_to_give_back_is_taken_back(renderer, shelf):
    kept = []

    class Forgetful(DevicePipeline):
        def render(self, request, lease, watcher):
            forgotten = lease("transformer")
            forgotten.__enter__()
            kept.append((forgotten, lease))
            return super().render(request, lease, watcher)

    shelf.kind = Forgetful
    await renderer.render(ask(), quiet())
    assert not any(part.leases for part in renderer.holdings().models[0].parts)
    forgotten, lease = kept[0]
    forgotten.__exit__(None, None, None)
    assert not any(part.leases for part in renderer.holdings().models[0].parts)
    with pytest.raises(ModelError, match="after its render had ended"), lease("vae"):
        pass


async def test_a_part_that_is_not_there_is_named(renderer, shelf):
    class Mistaken(DevicePipeline):
        def render(self, request, lease, watcher):
            with lease("unet"):
                raise AssertionError

    shelf.kind = Mistaken
    with pytest.raises(ModelError, match="no part called 'unet'"):
        await renderer.render(ask(), quiet())


async def test_with_group_offloading_only_what_does_not_stream_needs_room(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=1)

    class Grouped(DevicePipeline):
        def render(self, request, lease, watcher):
            with lease("vae"):  # the other two pass through the device a few layers at a time
                assert self.tiers["vae"] is WeightTier.VRAM
            return Rendered(fake_content(request), 1.0, {})

    shelf.kind = Grouped
    model = ModelRef(source="a", offload="group")
    await renderer.render(make_request(model=model), quiet())
    assert shelf.device.most == 1
    assert renderer.holdings().vram_bytes == 0


async def test_with_model_offloading_a_part_leaves_the_device_after_its_stage(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=60)
    model = ModelRef(source="a", offload="model")
    await renderer.render(make_request(model=model), quiet())
    assert renderer.holdings().vram_bytes == 0
    assert shelf.device.most == 60


async def test_parked_weights_that_ram_has_no_room_for_go_to_disk(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=101, ram_bytes=150)
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    await renderer.render(ask("c"), quiet())
    held = renderer.holdings()
    assert held.ram_bytes <= 150
    assert held.vram_bytes <= 101
    assert "c" in {model.source for model in held.models}
    assert "a" not in {model.source for model in held.models}, "the least recently used one went"


@pytest.mark.parametrize("free_ram", [10**12, None])
async def test_a_swap_closes_no_model_that_fits_before_and_after_it(renderer_with, shelf, clock, free_ram):
    """While it swaps, RAM may hold more than its budget, but only memory that is known to be free."""
    most = []

    class Watching(DevicePipeline):
        def wait(self, watcher):
            most.append(renderer.holdings().ram_bytes)
            super().wait(watcher)

    shelf.kind = Watching
    renderer = renderer_with(vram_bytes=101, ram_bytes=265, free_ram=lambda: free_ram)
    for source in "abcabcabc":
        await renderer.render(ask(source), quiet())
        await until(lambda: renderer.holdings().running is None)
        clock.advance(10)
        assert renderer.holdings().ram_bytes <= 265
    if free_ram is None:
        assert max(most) <= 265
    else:
        assert shelf.opened == ["a", "b", "c"]


# Parts that several models use


class SharingPipeline(DevicePipeline):
    """A fake that can use another one's parts, as weights in one place."""

    def adopt(self, part, other):
        if part == "transformer":
            return False
        self.borrowed = {**getattr(self, "borrowed", {}), part: other}
        self.tiers = _Tiers(self.tiers, other.tiers, part)
        return True


class _Tiers(dict):
    """Where parts are; one of them is looked up, and written, where its first owner does."""

    def __init__(self, own, others, shared):
        super().__init__(own)
        self.others, self.shared = others, shared
        self.chain = own

    def __getitem__(self, part):
        return self.others[part] if part == self.shared else self.chain[part]

    def __setitem__(self, part, tier):
        target = self.others if part == self.shared else self.chain
        target[part] = tier


@pytest.fixture
def sharing(shelf):
    shelf.kind = SharingPipeline
    shelf.identities = {"text_encoder": "qwen", "vae": "ae"}
    return shelf


async def test_parts_of_several_models_are_held_once_and_counted_once(renderer, sharing):
    for source in "abc":
        await renderer.render(ask(source), quiet())
    held = renderer.holdings()
    assert held.vram_bytes == 40 + 1 + 3 * 60
    assert all(part.shared == (part.name != "transformer") for model in held.models for part in model.parts)


async def test_shared_parts_stay_when_one_of_their_models_goes(renderer, sharing):
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    await renderer.unload(ModelRef(source="b"))
    assert renderer.holdings().vram_bytes == 101
    await renderer.render(ask("a", seed=2), quiet())
    assert await renderer.unload_all() == 1
    assert renderer.holdings().vram_bytes == 0


async def test_shared_parts_move_once_for_all(renderer_with, sharing):
    renderer = renderer_with(vram_bytes=102)
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    moved = [part for source in "ab" for part, _ in sharing.pipeline(source).moves]
    assert moved.count("vae") == 1


async def test_a_pipeline_that_cannot_share_has_its_own_and_both_are_counted(renderer, shelf):
    shelf.identities = {"text_encoder": "qwen"}
    for source in "ab":
        await renderer.render(ask(source), quiet())
    assert renderer.holdings().vram_bytes == 202


class Stuck(DevicePipeline):
    """Its text encoder does not leave the device when it is asked to for the first time."""

    stuck = True

    def move(self, part, tier):
        if self.stuck and part == "text_encoder" and tier is WeightTier.RAM and self.rendered_stages:
            self.stuck = False
            raise RuntimeError("the driver")
        super().move(part, tier)

    @property
    def rendered_stages(self):
        return any(tier is WeightTier.VRAM for tier in self.tiers.values())


async def test_a_part_that_does_not_leave_costs_its_model_and_no_finished_picture(renderer_with, shelf):
    shelf.kind = Stuck
    renderer = renderer_with()
    request = make_request(model=ModelRef(source="a", offload="model"))
    assert (await renderer.render(request, quiet())).content
    await until(lambda: shelf.unclosed() == 0)
    assert renderer.holdings().models == ()
    shelf.kind = DevicePipeline
    assert (await renderer.render(request, quiet())).content
    assert len(shelf.opened) == 2


async def test_a_model_one_of_whose_parts_is_nobody_knows_where_is_read_anew(renderer_with, shelf):
    shelf.kind = Stuck
    renderer = renderer_with(vram_bytes=70)  # 40 + 60 + 1: the encoder has to make room
    with pytest.raises(ModelError, match="the driver"):
        await renderer.render(ask(), quiet())
    await until(lambda: shelf.unclosed() == 0)
    shelf.kind = DevicePipeline
    assert (await renderer.render(ask(), quiet())).content
    assert len(shelf.opened) == 2
