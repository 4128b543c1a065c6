"""The leases of one render: what a pipeline's stage names is on the device, and stays, while it lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from ..errors import ModelError
from .held import Held, Weights


class Lending:
    """Lends a model's parts for one render, and for no longer: `with lending("vae"): ...`.

    `bring` puts pinned parts on the device; `stage_ended` is told while they are still pinned, and
    `given_back` when they no longer are. Each is called with the names of one lease's parts.
    """

    def __init__(
        self,
        held: Held,
        *,
        bring: Callable[[tuple[str, ...]], None],
        stage_ended: Callable[[tuple[str, ...]], None],
        given_back: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._held = held
        self._bring = bring
        self._stage_ended = stage_ended
        self._given_back = given_back
        self._open: list[_Lease] = []
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
        parts = tuple(dict.fromkeys(parts))
        lease = _Lease(parts, tuple(self._held.parts[name] for name in parts))
        self._held.lent.update(parts)
        # Pinned before they are brought: whoever makes room for them must spare them.
        for weights in lease.weights:
            weights.leases += 1
        self._open.append(lease)
        try:
            self._bring(parts)
            yield
            self._stage_ended(parts)
        finally:
            self._take_back(lease)

    def end(self) -> None:
        """Take back what the pipeline forgot to give back."""
        self._ended = True
        with ExitStack() as left:  # each of them, whatever goes wrong with another
            for lease in self._open:
                left.callback(self._take_back, lease)

    def _take_back(self, lease: _Lease) -> None:
        if lease not in self._open:
            return
        self._open.remove(lease)
        for weights in lease.weights:
            weights.leases -= 1
        self._given_back(lease.parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Lease:
    parts: tuple[str, ...]
    weights: tuple[Weights, ...]
