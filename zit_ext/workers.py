"""Threads that own things, and flights that many may share. Knows nothing of pictures."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from .request_ids import bearing_id

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class Worker:
    """One thread that owns one thing, so that the thing needs no lock.

    The thread starts with the first job and is a daemon: what hangs in it cannot keep the program
    from ending.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # Guards the thread's birth and death: no job may fall behind the one that ends it.
        self._door = threading.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function on this worker's thread, after everything asked of it before.

        Cancelled while it waits, it never runs; cancelled later, it runs to its end and nobody hears.
        """
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Ask from any thread, and get a future. Raises RuntimeError after `close`."""
        future: Future[T] = Future()
        with self._door:
            if self._closed:
                raise RuntimeError(f"worker {self.name} is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=_work, args=[self._jobs], name=self.name, daemon=True)
                self._thread.start()
            self._jobs.put((future, bearing_id(partial(function, *args, **kwargs))))
        return future

    def is_current(self) -> bool:
        """Say whether the caller runs on this worker's own thread."""
        return threading.current_thread() is self._thread

    def close(self, patience: float = 30.0) -> bool:
        """Finish what was asked, then end the thread; say whether it ended within `patience` seconds."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(patience)
        return not thread.is_alive()

    def abandon(self) -> None:
        """Cancel what waits, and wait for nothing: the thread ends when its job does, if ever."""
        with self._door:
            self._closed = True
            while True:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is not None:
                    job[0].cancel()
            self._jobs.put(None)


def in_thread(name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run the function on a daemon thread of its own, which ends with it; return a future."""
    worker = Worker(name)
    future = worker.submit(function, *args, **kwargs)
    worker.close(patience=0)
    return future


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                answer = call()
            except BaseException as error:
                # Everything goes to whoever asked: the thread outlives its jobs.
                future.set_exception(error)
            else:
                future.set_result(answer)
                del answer
        # An idle thread must keep nothing alive: neither weights nor pictures.
        del job, future, call


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiters: int = 0


class SingleFlight(Generic[T]):
    """At most one run per key at a time; whoever comes meanwhile shares its outcome.

    A waiter that is cancelled leaves alone. When the last one leaves, the run is cancelled, and the
    leaving waits until it has ended: nothing is left behind.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def __len__(self) -> int:
        """How many runs are under way."""
        return len(self._flights)

    def is_under_way(self, key: str) -> bool:
        """Tell whether whoever joins now shares a run that somebody else started."""
        flight = self._flights.get(key)
        return flight is not None and not flight.task.done()

    async def join(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """Return the outcome of the run for `key`, and whether it was started by somebody else.

        A run that has ended is over, even while its waiters have not heard of it yet: whoever comes
        then starts the next.
        """
        flight = self._flights.get(key)
        shared = self.is_under_way(key)
        if flight is None or not shared:
            flight = _Flight(asyncio.create_task(start()))
            self._flights[key] = flight
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task), shared
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                if not flight.task.done():
                    flight.task.cancel()
                    await asyncio.wait([flight.task])
