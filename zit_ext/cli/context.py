"""What every command is given: a console, the settings, and the doors to engine and store."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import SettingError
from ..history.database import FOLDER, HistoryError, HistoryFile
from ..history.tally import Counted, Tally
from ..plugins import Hooks
from ..results.store import ResultStore
from ..runtime import Runtime, plugins_for
from ..settings import Settings
from .console import Console
from .logs import use_format

log = logging.getLogger(__name__)

OpenRuntime = Callable[[Settings], Runtime]


@dataclass(frozen=True, slots=True)
class Context:
    """The world as a command sees it."""

    options: argparse.Namespace
    console: Console
    open_runtime: OpenRuntime
    environ: Mapping[str, str]

    def settings(self) -> Settings:
        """Return the user's settings, with what the command line says laid over them.

        Raises SettingError.
        """
        settings = with_options(Settings.load(self.environ), self.options)
        use_format(settings.log_format)  # the first moment at which it is known
        return settings

    @contextmanager
    def store(self, settings: Settings) -> Iterator[ResultStore]:
        """Open the result store alone: no loop, no weights. Raises StoreError."""
        hooks = Hooks(plugins_for(settings), slow_after=settings.hook_seconds)
        tally = Tally()
        store = ResultStore(settings, score=hooks.eviction_score, count=tally.event)
        store.open()
        try:
            yield store
        finally:
            store.close()
            _write_down(tally.take(), settings)


def with_options(settings: Settings, options: argparse.Namespace) -> Settings:
    """Return the settings with `--profile`, `--settings` and `--cache-dir` laid over them, in this order."""
    if options.profile:
        settings = settings.with_profile(options.profile, "--profile")
    for given in options.settings:
        name, equals, value = given.partition("=")
        if not equals:
            raise SettingError("settings", given, "give NAME=VALUE, such as --settings max_entries=500")
        settings = settings.with_values({name.strip(): value}, "--settings")
    if options.cache_dir is not None:
        settings = settings.with_values({"cache_dir": os.fspath(options.cache_dir)}, "--cache-dir")
    return settings


def _write_down(counted: Counted, settings: Settings) -> None:
    """Add what the store counted (damage that was found, entries that went) to the history."""
    if not counted:
        return
    file = HistoryFile(settings.cache_dir / FOLDER)
    try:
        file.add(counted, time.time())
    except HistoryError as error:
        log.info("%s", error)  # it costs a line of `stats`
    finally:
        file.close()
