"""Steps and previews of a render on their way to the host's progress bar."""

from __future__ import annotations

from zit_ext.pipeline import Watcher

from . import host


class Progress:
    """Listens to renders of a batch on their own thread; shows what it heard on the host's.

    The bar belongs to the node that the host's thread executes, so that thread moves it, whenever it
    looks up whether the user wants to stop.
    """

    def __init__(self, pictures: int, other: Watcher | None = None) -> None:
        """`other` hears the same, and may stop it too."""
        self._pictures = pictures
        self._other = other
        self._done = 0
        self._total = 1
        self._png: bytes | None = None
        self._shown = 0
        self._bar = None

    def step(self, done: int, total: int) -> None:
        self._done += 1
        self._total = total * self._pictures
        if self._other is not None:
            self._other.step(done, total)

    def preview(self, png: bytes) -> None:
        self._png = png
        if self._other is not None:
            self._other.preview(png)

    def wants_stop(self) -> bool:
        return host.interrupted() or (self._other is not None and self._other.wants_stop())

    def interrupted(self) -> bool:
        """Show what is new, and say whether the user wants to stop. On the host's thread."""
        if not host.interrupted():
            self.show()
        return host.interrupted()

    def show(self) -> None:
        """Move the bar to where the render is."""
        png, self._png = self._png, None
        if self._done > self._shown or png is not None:
            self._bar = self._bar or host.progress_bar(self._total)
            self._shown = self._done
            self._bar.update_absolute(self._done, self._total, png and host.preview(png))
