"""Futures that somebody waits for, so that they can be answered even if the loop behind them hangs.

Knows futures; knows neither requests nor plugins.
"""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Outstanding:
    """Gives each caller a future of its own. Any thread may ask, cancel and fail."""

    def __init__(self) -> None:
        self._waiting: dict[Future[Any], Future[Any]] = {}

    def follow(self, inner: Future[T]) -> Future[T]:
        """Return a future that ends as the inner one does; cancelled, it cancels the inner one."""
        outer: Future[T] = Future()
        self._waiting[outer] = inner

        def left(_outer: Future[T]) -> None:
            self._waiting.pop(outer, None)
            if outer.cancelled():
                inner.cancel()

        outer.add_done_callback(left)
        inner.add_done_callback(lambda _inner: _pass_on(inner, outer))
        return outer

    def fail(self, error: BaseException) -> None:
        """End everything that is waited for with this error, and what is behind it as soon as it can be."""
        for outer, inner in list(self._waiting.items()):
            with suppress(InvalidStateError):  # it ended by itself just now
                outer.set_exception(error)
            inner.cancel()


def _pass_on(inner: Future[T], outer: Future[T]) -> None:
    if inner.cancelled():
        if not outer.cancel():
            return
        outer.set_running_or_notify_cancel()
        return
    with suppress(InvalidStateError, CancelledError):
        error = inner.exception()
        if error is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())
