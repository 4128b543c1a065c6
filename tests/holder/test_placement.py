"""What makes room: tables and laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.models.budget import Budget
from zit_ext.models.holdings import HeldModel, HeldPart, Holdings
from zit_ext.models.placement import (
    OVERDUE_SECONDS,
    Candidate,
    LoadPlan,
    choose,
    expired,
    next_expiry,
    plan_load,
    shortfall,
)
from zit_ext.pipeline import WeightTier


def part(what, size, idle=10.0, cost=1.0, wanted=False):
    return Candidate(what=what, bytes=size, idle_seconds=idle, return_seconds=cost, wanted=wanted)


@pytest.mark.parametrize(
    ("candidates", "wanted", "chosen"),
    [
        ([part("old", 5, idle=100), part("new", 5, idle=1)], 5, ["old"]),
        ([part("dear", 5, cost=9), part("cheap", 5, cost=1)], 5, ["cheap"]),
        ([part("small", 1), part("large", 9)], 5, ["large"]),
        ([part("waited for", 5, idle=100, wanted=True), part("idle", 5, idle=1)], 5, ["idle"]),
        ([part("a", 5), part("b", 5)], 0, []),
        ([part("a", 5), part("b", 5)], 99, ["a", "b"]),
        ([part("nothing", 0, idle=1e9), part("b", 5)], 5, ["b"]),
        ([part("medium", 4, idle=100), part("large", 9, idle=1)], 9, ["large"]),
    ],
    ids=[
        "least recently used",
        "cheapest to bring back",
        "large ones rather than small",
        "wanted ones last",
        "nothing if nothing is needed",
        "all if it is not enough",
        "nothing that frees nothing",
        "nothing that could have stayed",
    ],
)
def test_what_goes(candidates, wanted, chosen):
    assert choose(candidates, wanted) == chosen


candidates = st.lists(
    st.builds(
        part,
        st.integers(),
        st.integers(0, 100),
        st.floats(-10, 1e6),
        st.floats(0, 100),
        st.booleans(),
    ),
    unique_by=lambda each: each.what,
    max_size=12,
)


@given(candidates, st.integers(0, 800), st.integers(0, 5))
def test_what_goes_is_enough_if_anything_is_and_never_more_than_needed(given_ones, wanted, least):
    chosen = choose(given_ones, wanted, least)
    sizes = {each.what: each.bytes for each in given_ones}
    assert len(chosen) == len(set(chosen))
    freed = sum(sizes[what] for what in chosen)
    assert freed >= min(wanted, sum(sizes.values()))
    assert len(chosen) >= min(least, len(given_ones))
    if freed >= wanted and len(chosen) > least:
        assert all(freed - sizes[what] < wanted for what in chosen), "one of them could have stayed"


def model(key, ram=10, vram=0, **changes):
    parts = (
        HeldPart(name="parked", bytes=ram, tier=WeightTier.RAM),
        HeldPart(name="near", bytes=vram, tier=WeightTier.VRAM),
    )
    usual = HeldModel(key=key, source=key, parts=parts, used_at=0.0, keep_alive=-1, load_seconds=1.0)
    return replace(usual, **changes)


def held(*models):
    return Holdings(
        device="cuda:0",
        models=models,
        ram_bytes=sum(each.bytes_in(WeightTier.RAM) for each in models),
        vram_bytes=sum(each.bytes_in(WeightTier.VRAM) for each in models),
    )


@pytest.mark.parametrize(
    ("models", "budget", "wanted", "plan"),
    [
        ([model("a")], Budget(), set(), LoadPlan((), True)),
        ([model("a")], Budget(ram_bytes=20), set(), LoadPlan((), True)),
        ([model("a")], Budget(ram_bytes=19), set(), LoadPlan(("a",), True)),
        ([model("a"), model("b")], Budget(max_models=2), {"a"}, LoadPlan(("b",), True)),
        ([model("a"), model("b")], Budget(max_models=1), set(), LoadPlan(("a", "b"), True)),
        ([model("a", rendering=True)], Budget(max_models=1), set(), LoadPlan((), False)),
        ([model("a", rendering=True), model("b")], Budget(ram_bytes=15), set(), LoadPlan(("b",), False)),
        (
            [model("old", used_at=1.0), model("new", used_at=99.0)],
            Budget(ram_bytes=30),
            set(),
            LoadPlan((), True),
        ),
        (
            [model("old", used_at=1.0), model("new", used_at=99.0)],
            Budget(ram_bytes=29),
            set(),
            LoadPlan(("old",), True),
        ),
        ([model("on the device", ram=0, vram=99)], Budget(ram_bytes=10), set(), LoadPlan((), True)),
    ],
)
def test_what_is_closed_before_a_load_of_ten(models, budget, wanted, plan):
    assert (
        plan_load(held(*models), budget, expected_bytes=10, wanted=wanted, now=100.0, one_memory=False)
        == plan
    )


def test_on_a_device_without_memory_of_its_own_every_tier_is_ram():
    models = held(model("a", ram=0, vram=10))
    plan = plan_load(
        models, Budget(ram_bytes=15), expected_bytes=10, wanted=frozenset(), now=1.0, one_memory=True
    )
    assert plan == LoadPlan(("a",), True)


def test_weights_that_another_model_uses_too_free_nothing():
    shared = HeldPart(name="text_encoder", bytes=10, tier=WeightTier.RAM, shared=True)
    models = [model(key, ram=0, parts=(shared,)) for key in "ab"]
    both = Holdings(device="cuda:0", models=tuple(models), ram_bytes=10)
    plan = plan_load(
        both, Budget(ram_bytes=15), expected_bytes=10, wanted=frozenset(), now=1.0, one_memory=False
    )
    assert not plan.fits


@given(
    needed=st.integers(0, 100),
    working=st.integers(0, 100),
    in_vram=st.integers(0, 100),
    limit=st.none() | st.integers(0, 200),
    free=st.none() | st.integers(0, 200),
)
def test_once_the_shortfall_has_left_the_weights_fit(needed, working, in_vram, limit, free):
    lack = shortfall(needed=needed, working=working, in_vram=in_vram, limit=limit, free=free)
    assert lack >= 0
    if limit is not None:
        assert in_vram - lack + needed <= limit
    if free is not None:
        assert free + lack >= needed + working


@pytest.mark.parametrize(
    ("keep_alive", "ram_keep_alive", "idle", "tier", "next_in"),
    [
        (10, 100, 5, WeightTier.VRAM, 5),
        (10, 100, 10, WeightTier.RAM, 100),
        (10, 100, 109, WeightTier.RAM, 1),
        (10, 100, 110, WeightTier.DISK, 0),
        (0, 100, 0, WeightTier.RAM, 100),
        (0, 0, 0, WeightTier.DISK, 0),
        (10, -1, 1e9, WeightTier.RAM, None),
        (-1, 0, 1e9, WeightTier.VRAM, None),
        (10, 100, -500, WeightTier.VRAM, 510),
    ],
    ids=["in time", "parked", "still parked", "closed", "at once", "closed at once", "parked for ever",
         "near for ever", "the clock was put back"],
)  # fmt: skip
def test_how_long_idle_weights_stay(keep_alive, ram_keep_alive, idle, tier, next_in):
    one = model("a", used_at=1000.0 - idle, keep_alive=keep_alive)
    assert expired(one, ram_keep_alive=ram_keep_alive, now=1000.0) is tier
    assert next_expiry([one], ram_keep_alive=ram_keep_alive, now=1000.0) == next_in


def test_weights_that_should_have_left_and_are_there_still_are_looked_at_again_soon():
    late = model("a", vram=5, used_at=0.0, keep_alive=10)
    assert next_expiry([late], ram_keep_alive=1e6, now=20.0) == OVERDUE_SECONDS
    assert next_expiry([late], ram_keep_alive=-1, now=20.0) == OVERDUE_SECONDS


def test_a_model_that_renders_has_no_end():
    one = model("a", used_at=0.0, keep_alive=0, rendering=True)
    assert expired(one, ram_keep_alive=0, now=1e9) is WeightTier.VRAM
    assert next_expiry([one], ram_keep_alive=0, now=1e9) is None
