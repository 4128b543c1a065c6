"""How the program writes: what people read, what programs read, and errors. Knows no command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO


class Console:
    """Writes to the streams of the process, as they are at that moment.

    What a stream cannot encode becomes a question mark, and what would move a terminal's cursor a space:
    a prompt is data, whoever wrote it.
    """

    def say(self, text: str = "") -> None:
        """Write a line for people."""
        _write(sys.stdout, text + "\n")

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Write a value for programs: plain ASCII, readable on every console."""
        _write(sys.stdout, json.dumps(value, indent=indent, default=str) + "\n")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """Write aligned columns; those named in `right` are aligned at their right side."""
        for line in aligned(head, rows, right=right):
            self.say(line)

    def bytes(self, data: bytes) -> None:
        """Write bytes as they are."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """Write a line beside the output: what a program that reads stdout must not get."""
        _write(sys.stderr, f"{text}\n")

    def complain(self, text: str) -> None:
        """Write one line that says what went wrong."""
        self.note("zit-ext: " + one_line(text))

    def confirmed(self, question: str) -> bool:
        """Ask a person, and return whether the answer was yes. Nobody there means no."""
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            return False
        _write(sys.stderr, f"{question} [y/N] ")
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            self.note("")
        return answer.strip().lower() in {"y", "yes"}

    def shows_progress(self) -> bool:
        """Tell whether somebody looks at stderr, so that a bar may move there."""
        return _is_terminal(sys.stderr)

    def progress(self, text: str) -> None:
        """Replace the line under the cursor; an empty text takes it away."""
        _write(sys.stderr, "\r\x1b[K" + one_line(text) if os.name != "nt" else f"\r{one_line(text):<78}\r")
        sys.stderr.flush()


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table.

    >>> aligned(["key", "size"], [["a", "10 kB"], ["bcde", "1 B"]], right=["size"])
    ['key    size', 'a     10 kB', 'bcde    1 B']
    """
    lines = [list(head), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = []
    for line in lines:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        shown.append("  ".join(cells).rstrip())
    return shown


def one_line(text: str, most: int | None = None) -> str:
    r"""Return a text that stays on its line, cut to `most` letters.

    >>> one_line("a\nb\x1b[2Jc"), one_line("lighthouse", 6)
    ('a b [2Jc', 'lig...')
    """
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if most is None or len(plain) <= most else plain[: most - 3] + "..."


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()  # whoever reads a pipe or a log is told now, and not when the program ends


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
