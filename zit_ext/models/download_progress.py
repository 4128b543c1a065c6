"""How far a download is, and one line of text that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_WAIT_ON_TERMINAL = 0.2
_WAIT_IN_LOG = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes that are there, of all files together; `file` is the one that is being fetched."""

    file: str
    done: int
    total: int


Report = Callable[[Progress], None]


class ProgressLine:
    """Shows progress as one line that is written over and over; in a log, as a line now and then."""

    def __init__(
        self, out: TextIO | None, title: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._title = title
        self._monotonic = monotonic
        self._terminal = out is not None and out.isatty()
        self._first: tuple[float, int] | None = None
        self._shown_at = float("-inf")
        self._width = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._width and self._terminal and self._out is not None:
            self._out.write("\n")
            self._out.flush()

    def show(self, progress: Progress) -> None:
        """Take note of how far it is; written at most a few times a second."""
        if self._out is None:  # a program without a console
            return
        now = self._monotonic()
        self._first = self._first or (now, progress.done)
        wait = _WAIT_ON_TERMINAL if self._terminal else _WAIT_IN_LOG
        if now - self._shown_at < wait and progress.done < progress.total:
            return
        self._shown_at = now
        text = self._text(progress, now)
        if self._terminal:
            self._out.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._out.write(text + "\n")
        self._out.flush()

    def _text(self, progress: Progress, now: float) -> str:
        started, already = self._first or (now, progress.done)
        share = progress.done / progress.total if progress.total else 1.0
        text = f"{self._title}: {_size(progress.done)} of {_size(progress.total)} ({share:.0%})"
        seconds = now - started
        if seconds > 1 and progress.done > already:
            rate = (progress.done - already) / seconds
            text += f", {_size(rate)}/s, {_time((progress.total - progress.done) / rate)} left"
        return text


def _size(count: float) -> str:
    """
    >>> _size(20_500_000_000), _size(1_200_000), _size(12)
    ('20.50 GB', '1.2 MB', '12 bytes')
    """
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:.0f} bytes"


def _time(seconds: float) -> str:
    """
    >>> _time(42), _time(605), _time(7300)
    ('42 s', '10 min', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
