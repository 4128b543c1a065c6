"""The thread that writes: one piece of work after the other, and upkeep when there is none."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ..request_ids import bearing_id

T = TypeVar("T")
log = logging.getLogger(__name__)


class Writer:
    """Runs what it is given, in that order, on a thread called zit-store.

    `idle` does one step of upkeep and returns in how many seconds it wants to do the next one.
    """

    def __init__(self, idle: Callable[[], float]) -> None:
        self._idle = idle
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="zit-store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        """Do this after everything that was put before. What it raises is logged and forgotten."""
        self._work.put(bearing_id(work))

    def ask(self, work: Callable[[], T]) -> Future[T]:
        """Do this after everything that was put before, and let somebody wait for the answer."""
        answer: Future[T] = Future()

        def answered() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(work())
            except BaseException as error:
                answer.set_exception(error)

        self._work.put(bearing_id(answered))
        return answer

    @property
    def is_current(self) -> bool:
        """Tell whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Finish everything that was put, then end."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                work = self._work.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + self._shielded(self._idle, 60.0)
                continue
            if work is None:
                return
            self._shielded(work, None)

    def _shielded(self, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except Exception:
            # A fault here must not end the thread: results would pile up unwritten.
            log.exception("the result store's writer failed at one piece of work, and goes on")
            return otherwise
