"""The leases of one render: what a pipeline's stage names is on the device, and stays, while it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ..errors import ModelError
from .held import Held, Weights


class Lending:
    """Lends a model's parts for one render, and for no longer: `with lending("vae"): ...`.

    `bring` puts pinned weights on the device; `stage_ended` is told while they are still pinned, and
    `given_back` when they no longer are.
    """

    def __init__(
        self,
        held: Held,
        *,
        bring: Callable[[list[Weights]], None],
        stage_ended: Callable[[], None],
        given_back: Callable[[list[Weights]], None],
    ) -> None:
        self._held = held
        self._bring = bring
        self._stage_ended = stage_ended
        self._given_back = given_back
        self._open: list[list[Weights]] = []
        self._ended = False

    def __call__(self, *parts: str) -> AbstractContextManager[None]:
        return self._lend(parts)

    @contextmanager
    def _lend(self, parts: tuple[str, ...]) -> Iterator[None]:
        if self._ended:
            raise ModelError("a pipeline asked for weights after its render had ended")
        unknown = [name for name in parts if name not in self._held.parts]
        if unknown:
            raise ModelError(f"{self._held.model.source!r} has no part called {unknown[0]!r}")
        lent = [self._held.parts[name] for name in dict.fromkeys(parts)]
        self._held.lent.update(parts)
        # Pinned before they are brought: whoever makes room for them must spare them.
        for weights in lent:
            weights.leases += 1
        self._open.append(lent)
        try:
            self._bring(lent)
            yield
            self._stage_ended()
        finally:
            self._take_back(lent)

    def end(self) -> None:
        """Take back what the pipeline forgot to give back."""
        self._ended = True
        for lent in list(self._open):
            self._take_back(lent)

    def _take_back(self, lent: list[Weights]) -> None:
        if not any(each is lent for each in self._open):
            return
        self._open = [each for each in self._open if each is not lent]
        for weights in lent:
            weights.leases -= 1
        self._given_back(lent)
