"""The watchdog: it sees who does not return, once, and costs nothing while nobody hangs."""

from __future__ import annotations

import threading
import time

import pytest

from zit_ext.plugin_watch import Call, Watch


@pytest.fixture
def reports():
    return []


@pytest.fixture
def call(reports):
    return lambda limit: Call(
        "sloth", "zit_make_room", limit, lambda call, stack: reports.append((call, stack))
    )


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 30 seconds")


def test_a_call_that_hangs_is_reported_once_with_the_stack_it_hangs_in(reports, call):
    watch, gate = Watch(), threading.Event()

    def lazy_bones():
        hangs = call(0.05)
        watch.begin(hangs)
        gate.wait(60)
        watch.end(hangs)

    thread = threading.Thread(target=lazy_bones)
    thread.start()
    wait_until(lambda: reports)
    assert watch.hanging(thread.ident) is reports[0][0]
    assert watch.hanging(threading.get_ident()) is None
    assert "lazy_bones" in reports[0][1]
    # The watch looks again whenever somebody is watched: it does not tell twice.
    quick = call(0.05)
    watch.begin(quick)
    watch.end(quick)
    gate.set()
    thread.join()
    assert watch.hanging(thread.ident) is None
    assert len(reports) == 1


def test_a_call_that_returns_in_time_is_not_reported(reports, call):
    watch = Watch()
    for _ in range(1000):
        quick = call(60)
        watch.begin(quick)
        watch.end(quick)
    assert watch.running() == []
    assert reports == []


def test_there_is_one_thread_for_all_calls_and_none_before_the_first(call):
    watch = Watch()
    assert watch._thread is None
    calls = [call(60) for _ in range(100)]
    for each in calls:
        watch.begin(each)
    (thread,) = [each for each in threading.enumerate() if each is watch._thread]
    assert thread.daemon
    for each in calls:
        watch.end(each)


def test_a_forked_child_watches_anew(reports, call):
    watch = Watch()
    before = call(60)
    watch.begin(before)
    watch.forked()
    assert watch.running() == []
    late = call(0.01)
    watch.begin(late)
    wait_until(lambda: reports)
    assert reports[0][0] is late


def test_no_limit_means_no_report(reports, call):
    watch = Watch()
    endless, hangs = call(0), call(0.02)
    watch.begin(endless)
    watch.begin(hangs)
    wait_until(lambda: reports)
    assert [each for each, _ in reports] == [hangs]
