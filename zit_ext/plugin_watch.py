"""Notices hook calls that do not come back. Knows threads and times; knows nothing of plugins' answers.

One daemon thread for the process, born at the first call. While hooks run it looks once per limit, and
between them it sleeps until somebody calls a hook again: a call costs two dictionary entries and no
wake-up. A call that hangs is reported once, with the stack that it hangs in.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

_SHORTEST = 0.01
_USUAL = 2.0


@dataclass(slots=True)
class Call:
    """One call of one hook of one plugin, while it runs."""

    plugin: str
    hook: str
    limit: float
    """Seconds after which the call counts as hung; 0 means never."""
    hung: Callable[[Call, str], None]
    """Told once, on the watching thread, with the stack as text."""
    thread: int = field(default_factory=threading.get_ident)
    started: float = field(default_factory=time.perf_counter)
    reported: bool = False


class Watch:
    """Watches the calls that are running."""

    def __init__(self) -> None:
        self._running: dict[int, Call] = {}
        self._wanted = threading.Event()
        self._hurry = threading.Event()
        self._interval = _USUAL
        self._thread: threading.Thread | None = None
        self._birth = threading.Lock()

    def begin(self, call: Call) -> None:
        """Watch this call from now on."""
        self._running[id(call)] = call
        # The watching thread lowers the flag first and looks for calls afterwards: one of us sees the other.
        if not self._wanted.is_set():
            self._wanted.set()
            if self._thread is None:
                self._start()
        if 0 < call.limit < self._interval:
            self._interval = max(_SHORTEST, call.limit)
            self._hurry.set()

    def end(self, call: Call) -> None:
        """The call came back."""
        self._running.pop(id(call), None)

    def hanging(self, thread: int | None) -> Call | None:
        """Return the call that hangs in this thread, if there is one."""
        for call in self.running():
            if call.reported and call.thread == thread:
                return call
        return None

    def running(self) -> list[Call]:
        """Return the calls that have not come back yet."""
        return list(self._running.values())

    def forked(self) -> None:
        """Be as new in a forked child: the watching thread and its calls stayed behind in the parent."""
        self._running, self._thread, self._birth = {}, None, threading.Lock()
        self._wanted, self._hurry = threading.Event(), threading.Event()

    def _start(self) -> None:
        with self._birth:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="zit-hook-watch", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            # Most calls are over long before: who sleeps first is woken once per interval, not per call.
            self._hurry.wait(self._interval)
            self._hurry.clear()
            for call in self.running():
                if self._look_at(call):
                    self._wanted.set()

    def _look_at(self, call: Call) -> bool:
        """Report a call that hangs. Return whether to look at it again."""
        if call.reported or not call.limit:
            return False
        if time.perf_counter() < call.started + call.limit:
            return True
        frame = sys._current_frames().get(call.thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "the thread is gone"
        del frame  # a kept frame keeps everything that its function holds
        if id(call) in self._running:
            call.reported = True
            call.hung(call, stack)
        return False


WATCH = Watch()
"""The process's one. It has no thread before the first hook is called."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCH.forked)
