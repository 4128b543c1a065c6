"""One row of the demo's table for each thing that was measured. Plain data, passed between processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one request of the demo did."""

    name: str
    outcome: str
    tier: str
    seconds: float
    """From question to answer, inside the process."""
    loads: int
    """Loads of weights in this process so far."""
    key: str | None
    digest: str
    """SHA-256 of the pixels."""
    torch_imported: bool
    identical: bool | None = None
    """Whether it equals what it was compared with, byte for byte; None where nothing was compared."""
    cache_status: str = ""
    file: str = ""
    file_digest: str = ""
    process_seconds: float | None = None
    """From the start of Python to the bytes in hand, where the process did nothing else."""
    problems: tuple[str, ...] = field(default=())
    """What should have been otherwise."""


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a JSON list."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file that `write_rows` made."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{**row, "problems": tuple(row["problems"])}) for row in rows]


def as_table(rows: Sequence[Row]) -> str:
    """Return the rows as text for people."""
    head = ("", "seconds", "answered from", "loads", "torch", "same bytes", "file", "Cache-Status")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    same = {None: "-", True: "yes", False: "NO"}[row.identical]
    status = row.cache_status.replace(row.key, row.key[:8] + "...") if row.key else row.cache_status
    return (
        row.name,
        f"{row.seconds:.4f}",
        row.tier,
        str(row.loads),
        "yes" if row.torch_imported else "no",
        same,
        row.file,
        status,
    )
