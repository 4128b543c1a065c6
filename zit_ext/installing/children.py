"""Runs other programs, so that stopping this one stops them too."""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

_GRACE_SECONDS = 10.0
_TOLD_SECONDS = 3.0
"""After Ctrl-C: who has not ended by then was perhaps not told."""


def clean_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables for a Python of our own: what points another Python elsewhere is left out."""
    misleading = {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "__PYVENV_LAUNCHER__"}
    clean = {name: value for name, value in environ.items() if name not in misleading}
    # A configuration file may say `user = true`, which an environment refuses; a variable outranks it.
    return {**clean, "PIP_USER": "0", "PYTHONNOUSERSITE": "1"}


def run(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
    on_error_line: Callable[[str], None] | None = None,
    hold: Sequence[int] = (),
) -> int:
    """Run a program to its end and return its exit code, 128 + n if signal n ended it.

    `on_error_line` sees each line of its stderr, which is passed on; stdout goes straight to the terminal.
    `hold` are file descriptors that the program keeps open. If this program is stopped, the other one
    gets time to tidy up and is then ended.
    """
    sys.stdout.flush()
    options: dict[str, Any] = {} if sys.platform == "win32" else {"pass_fds": tuple(hold)}
    child = subprocess.Popen(
        list(arguments),
        env=dict(environ),
        cwd=cwd,
        stderr=None if on_error_line is None else subprocess.PIPE,
        **options,
    )
    reader: threading.Thread | None = None
    if on_error_line is not None and child.stderr is not None:
        reader = threading.Thread(target=_pass_on, args=(child.stderr, on_error_line), daemon=True)
        reader.start()
    try:
        code = child.wait()
    except KeyboardInterrupt:
        # A terminal has told the other program too, and it tidies up. Who told only this one has not.
        if not _ends(child, _TOLD_SECONDS) and sys.platform != "win32":
            child.send_signal(signal.SIGINT)
        _await_end(child)
        raise
    finally:
        if child.poll() is None:
            child.terminate()
            _await_end(child)
        if reader is not None and child.stderr is not None:
            reader.join(timeout=_GRACE_SECONDS)
            child.stderr.close()
    return code if code >= 0 else 128 - code


class Listened:
    """A program whose lines are read as they come. Whoever stops reading ends it.

    `hold` are file descriptors that the program keeps open, so that a lock outlives this process with it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path | None = None,
        hold: Sequence[int] = (),
    ) -> None:
        options: dict[str, Any] = {} if sys.platform == "win32" else {"pass_fds": tuple(hold)}
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.code = 0
        """How it ended, once its lines were read: 128 + n if signal n ended it."""
        with _signals_later() as act_on_signals:
            self._child = subprocess.Popen(
                list(arguments),
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **options,
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        try:
            act_on_signals()
        except BaseException:
            self.end()
            raise

    def lines(self, seconds: float = 0.5) -> Generator[str, None, None]:
        """Yield its lines to the end of it; an empty one whenever it was silent for so long."""
        try:
            while True:
                try:
                    line = self._lines.get(timeout=seconds)
                except queue.Empty:
                    yield ""
                    continue
                if line is None:
                    break
                yield line
            code = self._child.wait()
            self.code = code if code >= 0 else 128 - code
        finally:
            self.end()

    def end(self) -> None:
        """End the program, if it runs, and wait for that."""
        if self._child.poll() is None:
            self._child.terminate()
            _await_end(self._child)
        self._reader.join(timeout=_GRACE_SECONDS)

    def _read(self) -> None:
        stream = self._child.stdout
        if stream is not None:
            with stream:
                for raw in stream:
                    self._lines.put(raw.decode("utf-8", "replace").rstrip("\r\n"))
        self._lines.put(None)


def ask(python: Path | str, code: str, *, seconds: float = 60.0) -> str | None:
    """Return what a few lines of Python print in that interpreter; None if they fail or take too long."""
    try:
        done = subprocess.run(
            # -I: an answer must not depend on the folder in which this was called.
            [str(python), "-I", "-X", "utf8", "-c", code],
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def stop_on_sigterm() -> None:
    """From now on a polite request to end unwinds this program, and so its children, as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def _signals_later() -> Iterator[Callable[[], None]]:
    """Put off Ctrl-C and the request to end until the value is called, which raises what they raise.

    Between a program's start and the record of it nobody else would end it.
    """
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler

    def act() -> None:
        for number in came:
            handlers[number](number, None)

    for number in handlers:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield act
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def as_typed(arguments: Sequence[str], platform: str = sys.platform) -> str:
    """Return a command as a person would type it.

    >>> as_typed(["python", "a b"], "linux"), as_typed(["python", "a b"], "win32")
    ("python 'a b'", 'python "a b"')
    """
    return subprocess.list2cmdline(arguments) if platform == "win32" else shlex.join(arguments)


def _pass_on(stream: IO[bytes], on_line: Callable[[str], None]) -> None:
    for raw in stream:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        print(line, file=sys.stderr, flush=True)
        on_line(line)


def _await_end(child: subprocess.Popen[bytes]) -> None:
    if not _ends(child, _GRACE_SECONDS):
        child.kill()
        child.wait()


def _ends(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
