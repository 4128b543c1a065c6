"""A line on the terminal that says how far a render is. Nothing at all where nobody looks."""

from __future__ import annotations

import threading
import time

from .console import Console

WIDTH = 24


class Progress:
    """The moving line of one call; `watch` gives each of its pictures a watcher."""

    def __init__(self, console: Console, pictures: int) -> None:
        self._console = console
        self._pictures = pictures
        self._visible = console.shows_progress()
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        """Set it, and every render of the call ends at its next step."""

    def watch(self, number: int) -> PictureWatcher:
        """Return the watcher of picture `number`, which counts from 1."""
        return PictureWatcher(self, number)

    def show(self, text: str) -> None:
        """Say what goes on."""
        with self._lock:
            if self._visible:
                self._console.progress(text)

    def clear(self) -> None:
        """Take the line away, so that a lasting one can be written."""
        self.show("")

    def picture(self, number: int) -> str:
        return f"picture {number}/{self._pictures}" if self._pictures > 1 else "picture"


class PictureWatcher:
    """What the render of one picture talks to. Called on the thread that renders."""

    def __init__(self, progress: Progress, number: int) -> None:
        self._progress = progress
        self._number = number
        self._started = time.perf_counter()

    def step(self, done: int, total: int) -> None:
        seconds = time.perf_counter() - self._started
        self._progress.show(
            f"{self._progress.picture(self._number)} {bar(done, total)} step {done}/{total}, {seconds:.1f} s"
        )

    def preview(self, png: bytes) -> None:
        """A line of text has no place for a picture."""

    def wants_stop(self) -> bool:
        return self._progress.stopped.is_set()


def bar(done: int, total: int, width: int = WIDTH) -> str:
    """
    >>> bar(2, 8, 8)
    '[##......]'
    """
    full = round(width * min(max(done / total, 0.0), 1.0)) if total > 0 else 0
    return "[" + "#" * full + "." * (width - full) + "]"
