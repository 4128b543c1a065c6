"""What the rooms log, as lines on stderr: warnings always, more with -v, tracebacks only then.

With the setting `log_format` each is one line of JSON, tracebacks included.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..structured_logs import JsonLines
from .console import Console, one_line

_LEVELS = {0: logging.WARNING, 1: logging.INFO}


class _ConsoleHandler(logging.Handler):
    """Writes records through the console, which knows what the stream can show."""

    def __init__(self, console: Console, tracebacks: bool) -> None:
        super().__init__()
        self._console = console
        self._tracebacks = tracebacks
        self._json = JsonLines()
        self.as_json = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.as_json:
            self._console.note(self._json.format(record))
            return
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


def use_format(log_format: str) -> None:
    """Show what is logged from now on as the setting says, if `logging_to` shows it at all."""
    for handler in logging.getLogger("zit_ext").handlers:
        if isinstance(handler, _ConsoleHandler):
            handler.as_json = log_format == "json"
