"""Who is next."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.records import ModelRef
from zit_ext.renderers.line import MOST_OVERTAKEN, SECONDS_PER_RANK, Line, Stoppable, Ticket, Wish
from zit_ext.testing import QuietWatcher, make_request


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def ticket(loop, number, key="a", priority=0, arrived_at=0.0):
    wish = Wish(make_request(priority=priority), Stoppable(QuietWatcher()))
    return Ticket(
        key=key,
        model=ModelRef(source=key),
        wish=wish,
        number=number,
        arrived_at=arrived_at,
        outcome=loop.create_future(),
    )


def line_of(loop, *tickets):
    line = Line()
    for number, changes in enumerate(tickets):
        line.add(ticket(loop, number, **changes))
    return line


def served(line, now=0.0, **given):
    """Serve everybody, and return the order as (key, number)."""
    order, current = [], given.pop("current", None)
    while chosen := line.choose(now, current=current, **given):
        line.take(chosen, now)
        current = chosen.key
        order.append((chosen.key, chosen.number))
    return order


def test_first_come_first_served(loop):
    assert served(line_of(loop, {}, {}, {})) == [("a", 0), ("a", 1), ("a", 2)]


def test_interactive_before_batch(loop):
    line = line_of(loop, {"priority": -1}, {"priority": -1}, {}, {"priority": 5})
    assert [number for _, number in served(line)] == [3, 2, 0, 1]


def test_alternating_requests_for_two_models_are_grouped(loop):
    line = line_of(loop, *[{"key": key} for key in "ababab"])
    assert "".join(key for key, _ in served(line, current="a")) == "aaabbb"


def test_grouping_does_not_let_batch_jobs_pass_a_person(loop):
    line = line_of(loop, {"key": "b"}, {"key": "a", "priority": -1})
    assert served(line, current="a")[0] == ("b", 0)


def test_the_first_in_line_is_overtaken_so_many_times_and_no_more(loop):
    line = line_of(loop, {"key": "b"}, *[{"key": "a"}] * 100)
    order = [key for key, _ in served(line, current="a")]
    assert order.index("b") == MOST_OVERTAKEN


def test_a_batch_job_rises_while_it_waits(loop):
    line = line_of(
        loop,
        {"priority": -1, "arrived_at": 0.0},
        {"priority": 0, "arrived_at": SECONDS_PER_RANK},
    )
    assert line.choose(SECONDS_PER_RANK, current=None).number == 0
    assert line.choose(SECONDS_PER_RANK - 1, current=None).number == 1


def test_weights_that_were_read_for_somebody_serve_him_before_they_go(loop):
    line = line_of(loop, {"key": "a", "priority": 9}, {"key": "b"})
    assert line.choose(0.0, current="a", owed="b").key == "b"


def test_nobody_is_next_where_nobody_waits(loop):
    assert Line().choose(0.0, current="a") is None
    assert line_of(loop, {}).choose(0.0, current=None, among=lambda _: False) is None


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=80))
def test_everybody_is_served_and_within_bounds(keys):
    loop = asyncio.new_event_loop()
    try:
        order = served(line_of(loop, *[{"key": key} for key in keys]), current="c")
    finally:
        loop.close()
    assert Counter(number for _, number in order) == Counter(range(len(keys)))
    for position, (_, number) in enumerate(order):
        # Before each one: those who came earlier, and as many others as its place in line allows.
        assert position <= number + MOST_OVERTAKEN * (number + 1)
