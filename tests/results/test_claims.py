"""One render for many: who holds the claim renders, and nobody waits for the dead."""

from __future__ import annotations

import threading

import pytest

from zit_ext.results.claims import Claims
from zit_ext.results.database import Pool
from zit_ext.results.layout import Layout
from zit_ext.results.store import Busy, Claim, Found
from zit_ext.testing import FakeClock

from .making import asked, is_true, keep, kept


def test_one_gets_the_claim_and_the_others_are_told_who_waits(make_store, clock):
    one, other = make_store(), make_store()
    claim = one.try_claim(asked(1))
    assert isinstance(claim, Claim)
    for store in (one, other):
        busy = store.try_claim(asked(1))
        assert busy == Busy(asked(1).key, clock.now + 30.0)
    assert isinstance(other.try_claim(asked(2)), Claim)


def test_a_released_claim_gives_way_only_after_the_entry_is_committed(make_store):
    one, other = make_store(), make_store()
    claim = one.try_claim(asked(1))
    gate = threading.Event()
    one._put(lambda: gate.wait(30) and None)
    keep(one, 1)
    one.release(claim)
    assert isinstance(other.try_claim(asked(1)), Busy)
    gate.set()
    one.flush()
    found = other.try_claim(asked(1))
    assert isinstance(found, Found)
    is_true(found, 1)


def test_a_claimer_finds_what_came_meanwhile(make_store):
    one, other = make_store(), make_store()
    kept(one, 1)
    assert isinstance(other.try_claim(asked(1)), Found)


def test_a_claim_that_comes_to_nothing_goes_to_the_next(make_store):
    one, other = make_store(), make_store()
    claim = one.try_claim(asked(1))
    one.release(claim)
    one.release(claim)
    one.flush()
    assert isinstance(other.try_claim(asked(1)), Claim)


def test_releasing_a_lost_claim_does_not_take_it_from_the_next(make_store, index):
    one, other = make_store(), make_store()
    lost = one.try_claim(asked(1))
    index("DELETE FROM claims")
    assert isinstance(other.try_claim(asked(1)), Claim)
    one.release(lost)
    one.flush()
    assert isinstance(one.try_claim(asked(1)), Busy)


def test_closing_lets_go_of_every_claim(make_store):
    one, other = make_store(), make_store()
    one.try_claim(asked(1))
    one.close()
    assert isinstance(other.try_claim(asked(1)), Claim)


def test_claims_can_be_switched_off(make_store):
    one, other = make_store(claim_seconds=0.0), make_store(claim_seconds=0.0)
    assert isinstance(one.try_claim(asked(1)), Claim)
    second = other.try_claim(asked(1))
    assert isinstance(second, Claim)
    other.release(second)
    kept(one, 1)
    assert isinstance(other.try_claim(asked(1)), Found)


def test_the_heart_beats_while_a_claim_is_held(make_store, index):
    store = make_store(claim_seconds=0.2)
    claim = store.try_claim(asked(1))
    waited = threading.Event()
    for _ in range(200):
        if index("SELECT beat FROM claims")[0][0] >= 2:
            break
        waited.wait(0.02)
    assert index("SELECT beat FROM claims")[0][0] >= 2
    store.release(claim)
    store.flush()
    assert index("SELECT count(*) FROM claims") == [(0,)]


# Leases, with clocks that the test moves


@pytest.fixture
def claimers(make_store, folder, clock):
    """Two claimers of two processes, as far as the index can tell, with a clock each that nobody sets."""
    make_store().close()
    pool = Pool(Layout(folder).find_index, writing=True)
    alive = {"one", "two"}

    class Claimer:
        def __init__(self, owner):
            self.steady = FakeClock(0.0)
            self.wall = FakeClock(clock.now)
            self.claims = Claims(
                pool,
                owner=owner,
                is_alive=alive.__contains__,
                lease_seconds=3600.0,
                clock=self.wall,
                steady=self.steady,
            )

        def take(self):
            return self.claims.take(asked(1).key, lambda: None)

        def beat(self):
            self.claims.beat()

    one, two = Claimer("one"), Claimer("two")
    yield one, two, alive
    one.claims.close()
    two.claims.close()
    pool.close()


def test_the_dead_hold_nothing(claimers):
    one, two, alive = claimers
    assert isinstance(one.take(), Claim)
    assert isinstance(two.take(), Busy)
    alive.discard("one")
    assert isinstance(two.take(), Claim)


def test_a_heart_that_stands_still_loses_the_claim_by_the_wall_clock(claimers):
    one, two, _ = claimers
    one.take()
    two.wall.advance(3599)
    assert isinstance(two.take(), Busy)
    two.wall.advance(1)
    assert isinstance(two.take(), Claim)


def test_a_wall_clock_that_was_set_back_keeps_nobody_waiting(claimers):
    one, two, _ = claimers
    one.take()
    two.wall.advance(-10_000_000)
    assert isinstance(two.take(), Busy)
    two.steady.advance(3599)
    assert isinstance(two.take(), Busy)
    two.steady.advance(1)
    assert isinstance(two.take(), Claim)


def test_a_beating_heart_keeps_the_claim_whatever_the_waiters_clock_says(claimers):
    one, two, _ = claimers
    one.take()
    for _ in range(5):
        assert isinstance(two.take(), Busy)
        two.steady.advance(2000)
        one.wall.advance(2000)
        two.wall.advance(2000)
        one.beat()
    assert isinstance(two.take(), Busy)


def test_of_many_threads_one_gets_the_claim(make_store):
    stores = [make_store(), make_store()]
    answers = []
    barrier = threading.Barrier(16)

    def take(store):
        barrier.wait()
        answers.append(store.try_claim(asked(1)))

    threads = [threading.Thread(target=take, args=(stores[n % 2],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy"] * 15 + ["Claim"]
