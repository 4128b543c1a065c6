"""Remembers into which hosts this user's checkouts were put, for `uninstall` and `doctor` without a path."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .hosts import NAMES, Host

_FILE = "hosts.json"


def remembered(data: Path, root: Path) -> list[Host]:
    """Return the hosts into which the checkout at `root` was put, whether or not they still exist."""
    return [Host(kind, Path(place)) for kind, place, source in _read(data) if source == str(root)]


def remember(data: Path, root: Path, host: Host) -> None:
    """Note that this checkout is in that host."""
    _write(data, [*_others(data, root, host), (host.kind, str(host.root), str(root))])


def forget(data: Path, root: Path, host: Host) -> None:
    """Note that it no longer is."""
    _write(data, _others(data, root, host))


def _others(data: Path, root: Path, host: Host) -> list[tuple[str, str, str]]:
    return [row for row in _read(data) if row != (host.kind, str(host.root), str(root))]


def _read(data: Path) -> list[tuple[str, str, str]]:
    try:
        rows = json.loads((data / _FILE).read_text(encoding="utf-8"))
        return [(str(kind), str(place), str(source)) for kind, place, source in rows if kind in NAMES]
    except (OSError, ValueError, TypeError):
        return []


def _write(data: Path, rows: list[tuple[str, str, str]]) -> None:
    if not rows and not (data / _FILE).exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    new = data / f".{_FILE}.{os.getpid()}"
    new.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    os.replace(new, data / _FILE)
