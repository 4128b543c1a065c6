"""What the rooms log, as lines on stderr: warnings always, more with -v, tracebacks only then."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .console import Console, one_line

_LEVELS = {0: logging.WARNING, 1: logging.INFO}


class _ConsoleHandler(logging.Handler):
    """Writes records through the console, which knows what the stream can show."""

    def __init__(self, console: Console, tracebacks: bool) -> None:
        super().__init__()
        self._console = console
        self._tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        self._console.note(f"zit-ext: {record.levelname.lower()}: {one_line(record.getMessage())}")
        if self._tracebacks and record.exc_info:
            self._console.note(logging.Formatter().formatException(record.exc_info))


@contextmanager
def logging_to(console: Console, verbose: int) -> Iterator[None]:
    """Show the package's log while the context lasts, and leave logging as it was."""
    logger = logging.getLogger("zit_ext")
    handler = _ConsoleHandler(console, tracebacks=verbose > 0)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(_LEVELS.get(verbose, logging.DEBUG))
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
