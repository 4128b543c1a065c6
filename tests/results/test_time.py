"""What is stale is never served, whatever the clocks do, and nothing is lost for a clock's mistake."""

from __future__ import annotations

import threading

import pytest

from zit_ext.results.disk import Disk
from zit_ext.results.timekeeping import DOUBT_SECONDS, Timekeeper
from zit_ext.testing import FakeClock

from .making import asked, keep, kept, search, there

DAY = 86_400.0


@pytest.fixture(params=[0, 1], ids=["no_memory", "rows_remembered"])
def memory_bytes(request):
    """One byte holds no picture, and lets rows be remembered."""
    return request.param


class Clocks:
    """A wall clock that may be set, beside a steady one that may not."""

    def __init__(self, wall: FakeClock) -> None:
        self.wall = wall
        self.steady = FakeClock(5_000.0)

    def pass_by(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.steady.advance(seconds)

    def set_wall(self, by: float) -> None:
        self.wall.advance(by)


@pytest.fixture
def clocks(clock) -> Clocks:
    return Clocks(clock)


@pytest.fixture
def timed_store(make_store, clocks):
    return make_store(steady=clocks.steady)


def test_a_day_is_the_time_to_live_unless_somebody_says_otherwise(make_store, clock):
    store = make_store()
    kept(store, 1)
    kept(store, 2, ttl_seconds=60)
    kept(store, 3, ttl_seconds=0)
    clock.advance(59)
    assert there(store, 1, 2, 3) == [1, 2, 3]
    clock.advance(1)
    assert there(store, 1, 2, 3) == [1, 3]
    clock.advance(DAY - 61)
    assert there(store, 1, 2, 3) == [1, 3]
    clock.advance(1)
    assert there(store, 1, 2, 3) == [3]
    clock.advance(1000 * DAY)
    assert there(store, 1, 2, 3) == [3]


def test_a_look_says_that_there_was_a_stale_answer(make_store, clock):
    store = make_store()
    kept(store, 1, ttl_seconds=60)
    assert not store.was_stale(asked(1))
    clock.advance(60)
    assert store.find(asked(1)) is None
    assert store.was_stale(asked(1))
    assert not store.was_stale(asked(2))
    kept(store, 1)
    assert store.find(asked(1)) is not None
    assert not store.was_stale(asked(1))


def test_memory_and_queue_serve_nothing_stale_either(make_store, clock):
    gate = threading.Event()

    class SlowDisk(Disk):
        def write_new(self, path, data, *, sync):
            gate.wait(30)
            super().write_new(path, data, sync=sync)

    store = make_store(memory_bytes=1_000_000, disk=SlowDisk())
    keep(store, 1, ttl_seconds=60)
    assert there(store, 1) == [1]
    clock.advance(60)
    assert store.peek(asked(1)) is None
    assert there(store, 1) == []
    gate.set()
    store.flush()
    kept(store, 2, ttl_seconds=60)
    assert store.peek(asked(2)) is not None
    clock.advance(60)
    assert store.peek(asked(2)) is None
    assert there(store, 1, 2) == []


def test_a_sliding_time_starts_again_at_each_use(make_store, clock):
    store = make_store(sliding_ttl=True, ttl_seconds=100.0)
    kept(store, 1, 2)
    for _ in range(5):
        clock.advance(90)
        assert there(store, 1) == [1]
    assert there(store, 2) == []
    store.flush()
    clock.advance(90)
    assert there(store, 1) == [1]
    store.close()
    store = make_store(sliding_ttl=True, ttl_seconds=100.0)
    clock.advance(90)
    assert there(store, 1) == [1]
    clock.advance(101)
    assert there(store, 1) == []


def test_a_fixed_time_does_not(make_store, clock):
    store = make_store(ttl_seconds=100.0)
    kept(store, 1)
    clock.advance(90)
    assert there(store, 1) == [1]
    store.flush()
    clock.advance(10)
    assert there(store, 1) == []


def test_a_namespace_has_a_time_to_live_of_its_own(make_store, clock):
    store = make_store()
    store.limit_namespace("brief", ttl_seconds=10)
    store.limit_namespace("long", ttl_seconds=0)
    for namespace in ("brief", "long"):
        kept(store, 1, namespace=namespace)
    kept(store, 2, namespace="brief", ttl_seconds=100)
    clock.advance(10)
    assert there(store, 1, 2, namespace="brief") == [2]
    clock.advance(1000 * DAY)
    assert there(store, 1, namespace="long") == [1]


def test_what_is_stale_is_swept_in_the_background(make_store, clock, counted):
    store = make_store()
    kept(store, *range(5), ttl_seconds=60)
    kept(store, 9)
    clock.advance(61)
    search(store)
    assert (store.usage().entries, counted["expired"]) == (1, 5)


# Clocks that are set


def test_a_clock_set_back_does_not_bring_stale_answers_to_life(timed_store, clocks):
    kept(timed_store, 1, ttl_seconds=3600)
    clocks.pass_by(3000)
    clocks.set_wall(-2 * DAY)
    assert there(timed_store, 1) == [1]
    clocks.pass_by(599)
    assert there(timed_store, 1) == [1]
    clocks.pass_by(1)
    assert there(timed_store, 1) == []


def test_what_is_kept_after_a_clock_was_set_back_lives_its_time(timed_store, clocks):
    kept(timed_store, 1)
    clocks.set_wall(-2 * DAY)
    kept(timed_store, 2, ttl_seconds=3600)
    clocks.pass_by(3599)
    assert there(timed_store, 2) == [2]
    clocks.pass_by(1)
    assert there(timed_store, 2) == []


def test_a_clock_set_back_is_remembered_by_the_next_process(make_store, clocks):
    store = make_store(steady=clocks.steady)
    kept(store, 1, ttl_seconds=3600)
    clocks.set_wall(-2 * DAY)
    there(store, 1)
    store.close()
    store = make_store(steady=clocks.steady)
    clocks.pass_by(3599)
    assert there(store, 1) == [1]
    clocks.pass_by(1)
    assert there(store, 1) == []


def test_a_clock_set_back_while_nobody_looked_is_noticed(make_store, clocks):
    store = make_store(steady=clocks.steady)
    kept(store, 1, ttl_seconds=3600)
    store.close()
    clocks.set_wall(-2 * DAY)
    clocks.pass_by(3600)
    assert there(make_store(steady=clocks.steady), 1) == []


def test_a_leap_ahead_serves_nothing_and_loses_nothing(timed_store, clocks):
    kept(timed_store, 1, 2, ttl_seconds=3600)
    clocks.set_wall(30 * DAY)
    assert there(timed_store, 1) == []
    search(timed_store)
    clocks.pass_by(600)
    clocks.set_wall(-30 * DAY)
    assert there(timed_store, 1, 2) == [1, 2]
    clocks.pass_by(3000)
    assert there(timed_store, 1, 2) == []


def test_a_leap_that_lasts_is_believed_in_the_end(timed_store, clocks):
    kept(timed_store, 1, ttl_seconds=3600)
    clocks.set_wall(30 * DAY)
    there(timed_store, 1)
    clocks.pass_by(DOUBT_SECONDS)
    search(timed_store)
    assert timed_store.usage().entries == 0


def test_caps_do_not_take_what_a_leap_made_stale_before_what_is_old(make_store, clocks):
    store = make_store(max_bytes=700, steady=clocks.steady)
    kept(store, 1, ttl_seconds=0)
    kept(store, 2, ttl_seconds=3600)
    clocks.set_wall(30 * DAY)
    kept(store, 3)
    clocks.set_wall(-30 * DAY)
    assert there(store, 1, 2) == [2]


def test_the_order_of_use_does_not_hang_on_the_clock(make_store, clocks):
    store = make_store(max_entries=3, steady=clocks.steady)
    for number, leap in ((1, 0.0), (2, -5 * DAY), (3, 9 * DAY), (4, -20 * DAY)):
        clocks.set_wall(leap)
        kept(store, number, ttl_seconds=0)
    assert there(store, 1, 2, 3, 4) == [2, 3, 4]


def test_small_corrections_are_no_jumps():
    wall, steady = FakeClock(), FakeClock(0.0)
    keeper = Timekeeper(wall, steady, boot="b")
    for step in (0.5, -0.5, 1.9, -1.9):
        wall.advance(100 + step)
        steady.advance(100)
        assert keeper.now() == keeper.surely() == wall.now


def test_a_reboot_keeps_what_was_set_back_and_forgets_a_leap():
    wall, steady = FakeClock(1000.0), FakeClock(0.0)
    keeper = Timekeeper(wall, steady, boot="one")
    wall.advance(-500)
    assert keeper.now() == 1000.0
    after = Timekeeper(wall, FakeClock(0.0), boot="two")
    after.resume(keeper.reading())
    assert after.now() == 1000.0
    wall.advance(-100)  # set back once more while the machine was off
    later = Timekeeper(wall, FakeClock(0.0), boot="three")
    later.resume(after.reading())
    assert later.now() == 1000.0


def test_a_clock_of_the_callers_own_is_taken_at_its_word():
    wall = FakeClock(1000.0)
    keeper = Timekeeper(wall)
    wall.advance(-500)
    assert (keeper.now(), keeper.surely()) == (500.0, 500.0)


@pytest.mark.parametrize(
    "change", ["expires_at = 1e12", "expires_at = NULL", "pinned = 1", "ttl_seconds = 1e9"]
)
@pytest.mark.parametrize("memory_bytes", [0, 1_000_000])
def test_no_flipped_bit_makes_a_stale_answer_fresh(make_store, index, clock, change, memory_bytes):
    store = make_store(memory_bytes=memory_bytes, sliding_ttl=True)
    kept(store, 1, ttl_seconds=100)
    assert there(store, 1) == [1]
    index(f"UPDATE entries SET {change}")
    store.flush()
    clock.advance(101)
    assert there(store, 1) == []
    store.flush()
    clock.advance(200)
    assert there(store, 1) == []
    kept(store, 1)
    assert there(store, 1) == [1]
    assert store.verify().problems == []
