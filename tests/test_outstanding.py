"""Whoever waits is answered: by what is behind it, by leaving, or because it hangs. Exactly once."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest

from zit_ext.outstanding import Outstanding


@pytest.fixture
def outstanding():
    return Outstanding()


def test_the_outer_future_ends_as_the_inner_one_does(outstanding):
    good, bad, gone = Future(), Future(), Future()
    outer = [outstanding.follow(each) for each in (good, bad, gone)]
    good.set_result(1)
    bad.set_exception(KeyError("x"))
    gone.cancel()
    gone.set_running_or_notify_cancel()
    assert outer[0].result(0) == 1
    with pytest.raises(KeyError):
        outer[1].result(0)
    with pytest.raises(CancelledError):
        outer[2].result(0)
    assert outstanding._waiting == {}


def test_who_leaves_cancels_what_is_behind(outstanding):
    inner: Future[int] = Future()
    assert outstanding.follow(inner).cancel()
    assert inner.cancelled()


def test_who_is_let_go_is_told_why_and_a_late_answer_harms_nobody(outstanding):
    running: Future[int] = Future()
    running.set_running_or_notify_cancel()  # it cannot be cancelled any more
    outer = outstanding.follow(running)
    outstanding.fail(ValueError("hangs"))
    with pytest.raises(ValueError, match="hangs"):
        outer.result(0)
    running.set_result(1)
    assert isinstance(outer.exception(0), ValueError)


def test_answers_and_failures_may_race(outstanding):
    for _ in range(200):
        inners = [Future() for _ in range(5)]
        outers = [outstanding.follow(inner) for inner in inners]
        for inner in inners:
            inner.set_running_or_notify_cancel()
        failing = threading.Thread(target=outstanding.fail, args=[ValueError()])
        failing.start()
        for inner in inners:
            inner.set_result(1)
        failing.join()
        assert all(outer.done() for outer in outers)
    assert outstanding._waiting == {}
