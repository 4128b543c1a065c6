"""Calls one implementation of one hook: timed, watched, and with whatever it raises given its name.

Slow calls are named. Who is slow several times in a row in a hook that requests wait for is not asked in it
again before the program starts anew; what that means for requests is for `plugins` to say. Built-in plugins
are named and asked all the same: a machine that swaps must not turn the cache off.
"""

from __future__ import annotations

import contextvars
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

from .errors import PluginError
from .plugin_checks import WrongError, passes
from .plugin_finding import words_of
from .plugin_trouble import Troubles
from .plugin_watch import WATCH, Call

log = logging.getLogger(__name__)

PATIENT_HOOKS = frozenset({"zit_open_pipeline", "zit_make_room"})
"""Loading weights and making room take what they take: their limit is that of a load."""

_inside: contextvars.ContextVar[str | None] = contextvars.ContextVar("zit_ext_hook", default=None)


def hook_running() -> str | None:
    """Return the hook that runs here just now, as `plugin.hook`, or None: it may not call the engine."""
    return _inside.get()


class Limits(NamedTuple):
    """How long hooks may take."""

    seconds: float = 2.0
    """For a hook that requests wait for; 0 means as long as it likes."""
    slow_calls: int = 3
    """So many in a row, and the plugin is not asked in that hook again; 0 means it always is."""
    hang_seconds: float = 60.0
    """Who has not returned by then is reported with the stack; 0 means never."""
    patient_seconds: float = 900.0
    """Both limits, for opening a pipeline and making room."""

    def slow(self, hook: str) -> float:
        return self.patient_seconds if hook in PATIENT_HOOKS else self.seconds

    def hung(self, hook: str) -> float:
        return self.patient_seconds if hook in PATIENT_HOOKS else self.hang_seconds


class Calls:
    """Calls implementations, and knows who is slow. Any thread may call."""

    def __init__(
        self,
        limits: Limits,
        troubles: Troubles,
        report: Callable[[str], None],
        hung: Callable[[Call], None] = lambda call: None,
        spared: Callable[[str], bool] = lambda plugin: False,
    ) -> None:
        self.limits = limits
        self._hung = hung
        self._spared = spared
        self._troubles = troubles
        self._report = report
        self._slow: Counter[tuple[str, str]] = Counter()
        self._off: dict[tuple[str, str], str] = {}

    def why_off(self, plugin: str, hook: str) -> str | None:
        """Return why the plugin is not asked in this hook any more, or None if it is."""
        return self._off.get((plugin, hook))

    def ask(
        self,
        hook: str,
        implementation: Any,
        arguments: Mapping[str, object],
        understood: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Return what one implementation answers, as `understood` has it; None stays None.

        Raises PluginError for whatever it raises, and for what is not understood (`understood` raises
        WrongError).
        """
        plugin = implementation.plugin_name
        call = Call(plugin, hook, self.limits.hung(hook), self._hangs)
        started = perf_counter()
        WATCH.begin(call)
        try:
            with _inside_hook(f"{plugin}.{hook}"):
                answer = implementation.function(*[arguments[name] for name in implementation.argnames])
                return None if answer is None else understood(answer)
        except WrongError as error:
            raise self._failed(plugin, hook, "nonsense", f"{hook} {error}") from error
        except BaseException as error:
            if passes(error):
                raise
            raise self._failed(plugin, hook, "failed", f"{hook} failed: {words_of(error)}") from error
        finally:
            WATCH.end(call)
            self._time(call, perf_counter() - started)

    def _failed(self, plugin: str, hook: str, kind: str, words: str) -> PluginError:
        self._troubles.add(plugin, hook, kind, words)
        return PluginError(plugin, words)

    def _time(self, call: Call, seconds: float) -> None:
        plugin, hook = call.plugin, call.hook
        limit = self.limits.slow(hook)
        if not limit or seconds <= limit:
            self._slow.pop((plugin, hook), None)
            return
        log.warning("plugin %r took %.1f s in %s", plugin, seconds, hook)
        self._troubles.add(plugin, hook, "slow", f"{hook} took {seconds:.1f} s")
        self._report("plugin_slow")
        self._slow[plugin, hook] += 1
        most = self.limits.slow_calls
        if self._slow[plugin, hook] == most and hook not in PATIENT_HOOKS and not self._spared(plugin):
            times = "once" if most == 1 else f"{most} times in a row"
            words = f"{hook} took longer than {limit:g} s {times}"
            log.error("plugin %r is not asked again before a restart: %s", plugin, words)
            self._troubles.add(plugin, hook, "bypassed", words)
            self._report("plugin_bypassed")
            self._off[plugin, hook] = words

    def _hangs(self, call: Call, stack: str) -> None:
        words = f"{call.hook} did not return within {call.limit:g} s"
        log.error("plugin %r: %s; thread %d is here:\n%s", call.plugin, words, call.thread, stack)
        self._troubles.add(call.plugin, call.hook, "hung", f"{words}; it is here:\n{stack}")
        self._report("plugin_hung")
        self._hung(call)


@contextmanager
def _inside_hook(name: str) -> Iterator[None]:
    token = _inside.set(name)
    try:
        yield
    finally:
        _inside.reset(token)
