"""A thread that owns a thing, and runs that are shared."""

import asyncio
import gc
import threading
import weakref

import pytest

from zit_ext.workers import SingleFlight, Worker, in_thread


@pytest.fixture
def worker():
    worker = Worker("zit-test")
    yield worker
    worker.close(patience=10)


class Thing:
    pass


def fail(error):
    raise error


async def test_everything_runs_on_one_thread_in_the_order_in_which_it_was_asked(worker):
    seen = []

    def note(number):
        seen.append((number, threading.current_thread().name))

    await asyncio.gather(*(worker.run(note, number) for number in range(50)))
    assert seen == [(number, "zit-test") for number in range(50)]


async def test_an_error_reaches_whoever_asked_and_the_thread_goes_on(worker):
    with pytest.raises(KeyError):
        await worker.run(fail, KeyError("x"))
    assert await worker.run(lambda: 1) == 1


async def test_even_an_exit_in_a_job_does_not_end_the_thread(worker):
    future = worker.submit(fail, SystemExit(3))
    assert isinstance(future.exception(10), SystemExit)
    assert await worker.run(lambda: 1) == 1


async def test_who_is_cancelled_while_waiting_is_never_run(worker):
    gate, ran = threading.Event(), []
    worker.submit(gate.wait, 30)
    waiting = asyncio.ensure_future(worker.run(ran.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await worker.run(ran.append, 2)
    assert ran == [2]


async def test_an_idle_thread_keeps_neither_argument_nor_answer_nor_error_alive(worker):
    argument, answer = Thing(), Thing()
    gone = [weakref.ref(argument), weakref.ref(answer)]

    async def ask(argument, answer):
        await worker.run(lambda _: answer, argument)
        with pytest.raises(ValueError, match="no"):
            await worker.run(lambda _: fail(ValueError("no")), argument)

    await ask(argument, answer)
    del argument, answer
    await worker.run(lambda: None)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_closing_finishes_what_was_asked():
    worker, done = Worker("zit-test"), []
    for number in range(5):
        worker.submit(done.append, number)
    assert worker.close(patience=10)
    assert done == [0, 1, 2, 3, 4]
    assert worker.close(), "twice is fine"
    with pytest.raises(RuntimeError, match="closed"):
        worker.submit(done.append, 5)


def test_closing_never_hangs():
    worker, gate = Worker("zit-test"), threading.Event()
    worker.submit(gate.wait, 30)
    assert worker.close(patience=0.01) is False
    gate.set()
    assert worker.close(patience=10) is True


def test_an_abandoned_worker_drops_what_waits_and_ends_after_its_job():
    worker, gate, begun = Worker("zit-test"), threading.Event(), threading.Event()
    running = worker.submit(lambda: begun.set() or gate.wait(30))
    waiting = worker.submit(lambda: 1)
    begun.wait(10)
    worker.abandon()
    assert waiting.cancelled()
    assert not running.done()
    gate.set()
    assert worker.close(patience=10)
    assert running.result(10) is True


def test_a_thread_for_one_job_ends_with_it():
    threads = []

    def note():
        threads.append(threading.current_thread())
        return "done"

    assert in_thread("zit-once", note).result(10) == "done"
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert threads[0].daemon
    with pytest.raises(KeyError):
        in_thread("zit-once", fail, KeyError("x")).result(10)


def test_a_worker_knows_its_own_thread(worker):
    assert worker.submit(worker.is_current).result(10)
    assert not worker.is_current()


# Flights


async def test_one_run_however_many_ask():
    flights, runs, go = SingleFlight(), [], asyncio.Event()

    async def run():
        runs.append(1)
        await go.wait()
        return "answer"

    asking = [asyncio.ensure_future(flights.join("key", run)) for _ in range(100)]
    await asyncio.sleep(0)
    go.set()
    answers = await asyncio.gather(*asking)
    assert len(runs) == 1
    assert sorted(answers) == [("answer", False)] + [("answer", True)] * 99
    assert len(flights) == 0


async def test_a_waiter_that_leaves_leaves_alone():
    flights, go = SingleFlight(), asyncio.Event()

    async def run():
        await go.wait()
        return "answer"

    first, second = (asyncio.ensure_future(flights.join("key", run)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await second == ("answer", True)


async def test_the_last_waiter_to_leave_takes_the_run_along_and_waits_for_its_end():
    flights, ended = SingleFlight(), []

    async def run():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("tidy")

    waiters = [asyncio.ensure_future(flights.join("key", run)) for _ in range(3)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert ended == ["tidy"]
    assert all(waiter.cancelled() for waiter in waiters)
    assert len(flights) == 0
    assert len(asyncio.all_tasks()) == 1


async def test_an_error_reaches_every_waiter_and_the_next_one_tries_again():
    flights, outcomes = SingleFlight(), [ValueError("once"), None]

    async def run():
        await asyncio.sleep(0)
        if error := outcomes.pop(0):
            raise error
        return "answer"

    failed = await asyncio.gather(*(flights.join("key", run) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in failed] == ["once"] * 3
    assert await flights.join("key", run) == ("answer", False)


async def test_who_comes_after_the_end_starts_anew_though_others_have_not_heard_yet():
    flights, runs, begun = SingleFlight(), [], asyncio.Event()

    async def run():
        runs.append(1)
        begun.set()
        return len(runs)

    first = asyncio.ensure_future(flights.join("key", run))
    await begun.wait()
    assert await flights.join("key", run) == (2, False)
    assert await first == (1, False)


async def test_a_new_run_may_start_while_the_old_one_is_still_ending():
    flights, ending, end = SingleFlight(), asyncio.Event(), asyncio.Event()

    async def stubborn():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ending.set()
            await end.wait()
            raise

    async def quick():
        return "new"

    old = asyncio.ensure_future(flights.join("key", stubborn))
    await asyncio.sleep(0)
    old.cancel()
    await ending.wait()
    assert await flights.join("key", quick) == ("new", False)
    end.set()
    await asyncio.wait([old])
    assert old.cancelled()
