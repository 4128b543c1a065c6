"""Where a Chromium is, for the tests that look at pages."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def chromium(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str | None:
    """Return the path of a Chromium, Chrome or Edge: what ZIT_CHROMIUM names, else one that is installed."""
    named = environ.get("ZIT_CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    for name in NAMES:
        found = shutil.which(name, path=environ.get("PATH"))
        if found:
            return found
    for path in _usual(environ, platform):
        if path.is_file():
            return str(path)
    return None


def _usual(environ: Mapping[str, str], platform: str) -> list[Path]:
    if platform == "darwin":
        return [
            Path("/Applications") / f"{name}.app" / "Contents" / "MacOS" / name
            for name in ("Google Chrome", "Chromium", "Microsoft Edge")
        ]
    if platform == "win32":
        roots = [environ.get(name) for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")]
        programs = (
            Path("Google") / "Chrome" / "Application" / "chrome.exe",
            Path("Microsoft") / "Edge" / "Application" / "msedge.exe",
        )
        return [Path(root) / program for root in roots if root for program in programs]
    return []
