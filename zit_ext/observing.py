"""Whoever looks on while a runtime answers: history on disk, and the latest answers in memory.

Nothing here is on the way of a request but a few microseconds of counting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .answers import Answers
from .errors import StoreError
from .history.database import FOLDER
from .history.recorder import Recorder
from .history.tally import Look, Size
from .metrics import Metrics
from .results.store import ResultStore
from .settings import Settings

if TYPE_CHECKING:
    from .models.holdings import Holdings

AskHoldings = Callable[[], "Holdings | None"]
"""What weights are held; blocks, and may raise anything."""


class Observer:
    """Watches one runtime."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        store: ResultStore,
        holdings: AskHoldings,
        *,
        own_holdings: Callable[[], Holdings | None],
        by_server: Callable[[], bool],
    ) -> None:
        """`own_holdings` tells what this process holds itself: how long that was read nobody else counts.

        `by_server` says whether a model server renders.
        """
        self._store = store
        self._holdings = holdings
        self._own_holdings = own_holdings
        self._by_server = by_server
        self.answers = Answers()
        self.history = Recorder(settings.cache_dir / FOLDER, look=self._look)
        self._loads = Loads(self.history, settings.namespace)
        metrics.tell(self.answers.add)
        metrics.tell(self.history.answered, self.history.event)

    def renderer_state(self) -> str:
        """Return "ready"; of a model server also "asleep" (it starts at the first miss) or "unreachable".

        Blocks, for as long as asking for holdings may.
        """
        if not self._by_server():
            return "ready"
        try:
            return "asleep" if self._holdings() is None else "ready"
        except Exception:  # it hangs, it ends, this process does: whatever it is, nothing renders now
            return "unreachable"

    def close_eyes(self) -> None:
        """See for the last time how long weights took to be read. Before the runtime ends."""
        with contextlib.suppress(Exception):
            self._loads.saw(self._own_holdings())

    def close(self) -> None:
        """Write history down, and end its thread. Twice is fine."""
        self.history.close()

    def _look(self) -> Look:
        sizes: dict[str | None, Size] = {}
        with contextlib.suppress(StoreError):  # no store, no sizes; there may be weights all the same
            usage = self._store.usage()
            sizes[None] = Size(usage.bytes, usage.entries)
            for each in self._store.namespaces():
                sizes[each.name] = Size(each.bytes, each.entries)
        return Look(self.history.now(), sizes, self._held())

    def _held(self) -> tuple[str, ...]:
        try:
            holdings = self._holdings()
        except Exception:  # the runtime ends, a hook hangs, the model server is busy
            return ()
        self._loads.saw(self._own_holdings())
        return sources_of(holdings)


class Loads:
    """Counts for history how long this process read weights."""

    def __init__(self, history: Recorder, namespace: str) -> None:
        self._history = history
        self._namespace = namespace
        self._seconds = 0.0

    def saw(self, holdings: Holdings | None) -> None:
        """Count what was read since the last time."""
        if holdings is not None and holdings.load_seconds > self._seconds:
            self._history.loaded(self._namespace, holdings.load_seconds - self._seconds)
            self._seconds = holdings.load_seconds


def sources_of(holdings: Holdings | None) -> tuple[str, ...]:
    """Return the sources of what is held, each once."""
    return () if holdings is None else tuple(dict.fromkeys(each.source for each in holdings.models))
