"""What is said to be saved is what was not computed, whichever caches answered: without a host."""

from __future__ import annotations

import pytest

from comfy_nodes.work import Work

LOADER, ONE, OTHER = ("L",), ("L", "one"), ("L", "other")


class Ticking:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def work(clock: Ticking) -> Work:
    return Work(clock)


def ran(work: Work, clock: Ticking, **seconds: float) -> None:
    for node, each in seconds.items():
        work.began(node)
        clock.now += each
        work.ended(node)


def test_the_cost_is_of_the_nodes_above_and_not_of_what_ran_between(work, clock):
    ran(work, clock, L=10, other=30, one=5)
    assert work.whole(ONE) == 15


def test_what_the_host_held_already_costs_nothing(work, clock):
    work.ended("L")
    ran(work, clock, one=5)
    assert work.whole(ONE) == 5


def test_a_node_that_runs_still_counts_until_now(work, clock):
    work.began("one")
    clock.now += 3
    assert work.share(ONE) == 3


def test_a_node_that_waits_for_lazy_inputs_counts_from_its_second_beginning(work, clock):
    work.began("one")
    ran(work, clock, L=10)
    ran(work, clock, one=2)
    assert work.whole(ONE) == 12


def test_entries_of_node_cache_share_out_the_seconds_of_a_prompt(work, clock):
    ran(work, clock, L=10, one=5)
    assert work.share(ONE) == 15
    work.keep_share(ONE)
    ran(work, clock, other=7)
    assert work.share(OTHER) == 7

    later = Work(clock)
    assert [later.saved(ONE, 15, whole=False), later.saved(OTHER, 7, whole=False)] == [15, 7]


def test_one_that_was_not_kept_leaves_its_seconds_to_the_next(work, clock):
    ran(work, clock, L=10, one=5, other=7)
    assert work.share(ONE) == 15
    assert work.share(OTHER) == 17


def test_a_cache_below_node_cache_saves_only_what_is_left(work):
    work.saved(ONE, 15, whole=False)
    assert work.saved(ONE, 15, whole=True) == 0
    assert work.saved((*ONE, "decode"), 16, whole=True) == 1


def test_two_caches_one_above_the_other_save_what_the_lower_one_cost_in_any_order(clock):
    below = (*ONE, "decode")
    for order in ([(ONE, 15), (below, 16)], [(below, 16), (ONE, 15)]):
        work = Work(clock)
        assert sum(work.saved(nodes, cost, whole=True) for nodes, cost in order) == 16


def test_two_caches_on_branches_share_their_loader_once(work, clock):
    ran(work, clock, L=10, one=5)
    first = work.whole(ONE)
    work.keep_whole(ONE)
    ran(work, clock, other=7)
    second = work.whole(OTHER)
    later = Work(clock)
    assert later.saved(ONE, first, whole=True) + later.saved(OTHER, second, whole=True) == 22


def test_a_cache_inside_another_leaves_that_whole(work, clock):
    ran(work, clock, L=10, one=5)
    work.keep_whole(LOADER)
    assert work.whole(ONE) == 15
    work.keep_whole(ONE)
    assert work.whole(LOADER) == 10


def test_what_was_answered_above_belongs_to_the_cost_of_the_next_cache(work, clock):
    work.saved(ONE, 15, whole=False)
    ran(work, clock, decode=1)
    assert work.whole((*ONE, "decode")) == 16


def test_a_hit_never_saves_less_than_nothing(work):
    work.saved(ONE, 15, whole=False)
    assert work.saved((*ONE, "decode"), 3, whole=True) == 0
