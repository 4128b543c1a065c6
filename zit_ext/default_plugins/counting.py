"""Counts every answered request for the statistics of this process."""

from __future__ import annotations

from collections.abc import Callable

from ..hookspecs import hookimpl
from ..records import Result


class Counting:
    """Registered by the runtime with its metrics. Without it there are no statistics, and no other harm."""

    def __init__(self, answered: Callable[[Result], None]) -> None:
        self._answered = answered

    @hookimpl
    def zit_request_finished(self, result: Result) -> None:
        self._answered(result)
