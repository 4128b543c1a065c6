"""Renders in this process or in the model server: decided at each miss, by who holds weights.

Weights that are here already render here. Else `in_server` says where: a server that runs is preferred to
a second copy of the weights, also one that was started after this program. Else they are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import PluginError
from ..models.environment import EnvironmentBook, record_digest
from ..pipeline import Rendered, Watcher
from ..records import FieldValue, Request
from .late import LateRenderer

if TYPE_CHECKING:
    # Whoever only meets hits does not pay for rendering.
    from .model_server import ServerRenderer
    from .several import HereRenderer


class EitherRenderer:
    """Renders here or there. Any thread may ask who would.

    `in_server` says where a miss goes whose weights are not here. It is asked once for each miss; for a
    look-up only while the last miss went there.
    """

    def __init__(
        self,
        *,
        here: Callable[[], HereRenderer],
        there: Callable[[], ServerRenderer],
        in_server: Callable[[], bool],
        book: EnvironmentBook,
    ) -> None:
        self.here = LateRenderer(here)
        self._there = LateRenderer(there)
        self._in_server = in_server
        self._is_there = in_server()
        self._asked_there = 0
        self.environments = _Environments(self, book)
        """What a miss would be rendered in, wherever that is."""

    def is_there(self) -> bool:
        """Say whether the next miss goes to the model server. Looks at the world."""
        # Whoever asked a server that dies just now starts a new one: the others go there as well.
        self._is_there = bool(self._asked_there) or (not self._holds_weights() and self._in_server())
        return self._is_there

    def itself(self) -> HereRenderer | ServerRenderer:
        """Return who renders the next miss; made now if need be."""
        return self._there.itself() if self.is_there() else self.here.itself()

    @property
    def made(self) -> HereRenderer | ServerRenderer | None:
        """Who renders, if a miss has needed one by now."""
        return self._there.made if self._is_there else self.here.made

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        """Return the answer of whoever renders this one."""
        if not self.is_there():
            rendered = await self.here.itself().render(request, watcher)
            self.environments.rendered_here(rendered)
            return rendered
        self._asked_there += 1
        try:
            rendered = await self._there.itself().render(request, watcher)
        finally:
            self._asked_there -= 1
        self.environments.rendered_there(rendered)
        return rendered

    async def close(self) -> None:
        """Close whoever was made. The server stays."""
        await self.here.close()
        await self._there.close()

    def environments_there(self) -> EnvironmentBook:
        return self._there.itself().environments

    def still_there(self) -> bool:
        """Say whether misses go to the server; while they went here last, without looking for one."""
        return self._is_there and self.is_there()

    def _holds_weights(self) -> bool:
        made = self.here.made
        if made is None:
            return False
        held = made.holdings()
        return bool(held.models or held.running or held.loading or held.queued)


class _Environments:
    """The environments of two renderers, each remembered as that of whoever rendered in it."""

    def __init__(self, renderer: EitherRenderer, here: EnvironmentBook) -> None:
        self._renderer = renderer
        self._here = here
        self._seen_here: set[str] = set()
        self._seen_there: set[str] = set()

    def find(self, name: str) -> Mapping[str, FieldValue] | None:
        """Return the environment in which a miss would be rendered now, if it is known."""
        there = self._renderer.still_there()
        return (self._renderer.environments_there() if there else self._here).find(name)

    def publish(self, name: str, record: Mapping[str, FieldValue]) -> None:
        """Remember what a renderer reported; which of the two it was is known from its render."""
        digest = _digest(record)
        if digest in self._seen_here:
            self._here.publish(name, record)
        if digest in self._seen_there:
            self._renderer.environments_there().publish(name, record)

    def rendered_here(self, rendered: Rendered) -> None:
        self._seen_here.add(_digest(rendered.environment))

    def rendered_there(self, rendered: Rendered) -> None:
        self._seen_there.add(_digest(rendered.environment))


def _digest(record: Mapping[str, FieldValue]) -> str:
    try:
        return record_digest(record)
    except PluginError:
        return ""  # no plain values: whoever makes a key of it says so, and the picture is answered
