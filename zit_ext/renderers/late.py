"""A renderer that is made when somebody first needs one. A program that only meets hits never does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..pipeline import Rendered, Renderer, Watcher
from ..records import Request

R = TypeVar("R", bound=Renderer)


class LateRenderer(Generic[R]):
    """Stands in for the renderer that `make` returns. Any thread may ask for that one."""

    def __init__(self, make: Callable[[], R]) -> None:
        self._make = make
        self._made: R | None = None
        self._making = threading.Lock()

    @property
    def made(self) -> R | None:
        """The renderer, if somebody has needed it by now."""
        return self._made

    def itself(self) -> R:
        """Return the renderer; made at the first call. What `make` raises is raised, and tried again."""
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        """Return the answer of the renderer."""
        return await self.itself().render(request, watcher)

    async def close(self) -> None:
        """Close the renderer, if one was made."""
        with self._making:
            made = self._made
        if made is not None:
            await made.close()
