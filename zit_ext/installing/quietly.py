"""Runs pip with one line for each step and a sign of life. All that pip says goes into a file.

When pip fails, the end of it is shown, and the file is named.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from . import pip
from .children import Listened, clean_environ
from .trouble import SetupError

LAST_LINES = 25
"""Of pip, shown when it fails."""
QUIET_SECONDS = 30.0
"""How often something is said where no line can move: in a file, in a log of CI."""
_LARGE = re.compile(r"\((\d{2,}[\d.]* MB|[\d.]+ GB)\)")

Say = Callable[[str], None]


def install(
    python: Path,
    arguments: Sequence[str],
    *,
    what: str,
    log: Path,
    say: Say,
    cwd: Path | None = None,
    hold: Sequence[int] = (),
) -> None:
    """Run `pip install` in that Python, and say when it is done. Raises SetupError with cause and remedy."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", *arguments]
    last: deque[str] = deque(maxlen=LAST_LINES)
    with (
        tempfile.TemporaryDirectory(prefix="zit-pip-", ignore_cleanup_errors=True) as temporary,
        Life(what, say) as life,
        log.open("a", encoding="utf-8") as written,
    ):
        # A folder of its own, so that one sees what arrives in it.
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)
        environ = {**clean_environ(), **places, "PYTHONUNBUFFERED": "1"}
        child = Listened(command, environ=environ, cwd=cwd, hold=hold)
        with contextlib.closing(child.lines()) as lines:
            for line in lines:
                if line:
                    written.write(f"{line}\n")
                    written.flush()
                    last.append(line)
                life.sign(line, pip.downloaded_bytes(Path(temporary)))
    if child.code:
        print(*last, sep="\n", file=sys.stderr, flush=True)
        error = pip.failed(command, log.read_text(encoding="utf-8"), child.code)
        raise SetupError(error.what, f"{error.remedy}\n  All that pip said is in {log}.")
    say(life.done())


class Life:
    """Shows that something goes on: a line that moves on a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        what: str,
        say: Say,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._say = say
        self._stream = sys.stdout if stream is None else stream
        self._moves = self._stream.isatty()
        self._clock = clock
        self._began = self._said = clock()
        self._doing = ""
        self._bytes = 0
        self._packages = 0

    def __enter__(self) -> Life:
        if not self._moves:
            self._say(f"{self._what} ...")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show("")

    def sign(self, line: str, downloaded: int) -> None:
        """Show what pip does, by its newest line (or none), and how many bytes have arrived."""
        self._bytes = max(self._bytes, downloaded)
        doing = words_of(line)
        self._doing = doing or self._doing
        if line.startswith("Installing collected packages: "):
            self._packages = len(line.split(", "))
        if self._moves:
            self._show(f"{self._what}: {self._state()}")
        elif (doing and _LARGE.search(doing)) or self._clock() - self._said >= QUIET_SECONDS:
            self._said = self._clock()
            self._say(f"  {self._state()}")

    def done(self) -> str:
        """Return what to say at the end."""
        facts = [f"{self._packages} packages" if self._packages != 1 else "1 package"]
        facts += [f"{self._bytes / 1e6:,.0f} MB downloaded"] if self._bytes >= 1e6 else []
        return f"{self._what}: done, {', '.join([*facts, self._lasted()])}."

    def _state(self) -> str:
        arrived = f"{self._bytes / 1e6:,.0f} MB so far" if self._bytes else ""
        return ", ".join(filter(None, [self._doing or "asking the package index", arrived, self._lasted()]))

    def _lasted(self) -> str:
        minutes, seconds = divmod(round(self._clock() - self._began), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    def _show(self, words: str) -> None:
        if self._moves:
            width = max(20, shutil.get_terminal_size().columns - 1)
            # As wide as it can be: what stood there before is written over.
            self._stream.write(f"\r{words[:width]:<{width}}\r")
            self._stream.flush()


def words_of(line: str) -> str:
    """Return what a line of pip's means to a person; nothing if it is no step.

    >>> words_of("  Downloading torch-2.13.0-cp311-none-linux_x86_64.whl (104.2 MB)")
    'downloading torch 2.13.0 (104.2 MB)'
    >>> words_of("Collecting diffusers==0.42.1 (from zit_ext==0.1.0)")
    'looking for diffusers'
    >>> words_of("Installing collected packages: torch, diffusers")
    'unpacking 2 packages'
    """
    words = line.strip()
    if (found := re.match(r"(?:Downloading|Using cached) (\S+)(.*)", words)) is not None:
        # An index's address stands before the name of the file in some versions.
        name = os.path.basename(found[1]).split("-")  # noqa: PTH119 - of an address
        doing = "downloading" if words.startswith("Downloading") else "taking"
        return f"{doing} {' '.join(name[:2])}{found[2]}"
    if (found := re.match(r"Collecting ([\w.-]+)", words)) is not None:
        return f"looking for {found[1]}"
    if words.startswith("Installing collected packages: "):
        return f"unpacking {len(words.split(', '))} packages"
    if words.startswith(("Building", "Preparing", "Installing build dependencies", "Getting requirements")):
        return "preparing what is built here"
    return ""
