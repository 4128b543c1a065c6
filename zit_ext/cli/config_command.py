"""`zit-ext config`: every setting, its value, and where that came from."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import SettingError
from ..nearest import nearest
from ..setting_values import user_config_file
from ..settings import PROFILES, Settings
from .context import Context
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "config",
        config,
        help="show the settings, or one, or where their file is",
        description="Shows every setting with its value, where that came from, and what it does. "
        "Settings: defaults < TOML file < ZIT_* variables < --profile < --settings < --cache-dir.",
    )
    parser.add_argument("what", nargs="?", choices=("get", "path", "profiles"), help="default: all settings")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the setting that `get` shows")
    parser.add_argument("--json", action="store_true", help="for programs")


def config(options: argparse.Namespace, context: Context) -> int:
    console = context.console
    if options.what == "path":
        path = user_config_file(context.environ)
        if options.json:
            console.json({"path": str(path), "exists": path.exists()})
        else:
            console.say(str(path))
        return 0
    if options.what == "profiles":
        return _profiles(options, context)
    settings = context.settings()
    if options.what == "get":
        return _get(options, context, settings)
    rows = described(settings)
    if options.json:
        console.json(rows)
        return 0
    table = [
        [row["name"], shown(row["name"], getattr(settings, row["name"])), row["origin"], row["help"]]
        for row in rows
    ]
    console.table(("setting", "value", "from", "what it does"), table)
    return 0


def described(settings: Settings) -> list[dict[str, Any]]:
    """Return every setting with value, default, origin and help."""
    return [
        {
            "name": each.name,
            "value": plain(getattr(settings, each.name)),
            "default": plain(each.default),
            "origin": settings.origin.get(each.name, "default"),
            "variable": f"ZIT_{each.name.upper()}",
            "help": each.metadata["help"],
        }
        for each in Settings.described()
    ]


def plain(value: Any) -> Any:
    """Return a setting's value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return [plain(each) for each in value] if isinstance(value, tuple) else value


def shown(name: str, value: Any) -> str:
    """Return a setting's value as `--settings NAME=VALUE` takes it.

    >>> shown("debug", True), shown("max_bytes", None), shown("preload", ("a", "b")), shown("keep_alive", 1e5)
    ('true', 'auto', 'a,b', '100000')
    """
    if value is None:
        cast = next(each.metadata["cast"] for each in Settings.described() if each.name == name)
        return next((word for word in ("off", "auto") if _is_none(cast, word)), "")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        folders = any(isinstance(each, Path) for each in value)
        return (os.pathsep if folders else ",").join(str(each) for each in value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _is_none(cast: Callable[[Any], Any], word: str) -> bool:
    try:
        return cast(word) is None
    except ValueError:
        return False


def _get(options: argparse.Namespace, context: Context, settings: Settings) -> int:
    names = [each.name for each in Settings.described()]
    if options.name not in names:
        near = ", ".join(nearest(str(options.name), names, most=3)) or "none"
        raise SettingError("name", options.name, f"name a setting; nearest: {near}")
    if options.json:
        context.console.json(next(row for row in described(settings) if row["name"] == options.name))
    else:
        context.console.say(shown(options.name, getattr(settings, options.name)))
    return 0


def _profiles(options: argparse.Namespace, context: Context) -> int:
    rows = [(name, key, value) for name, each in PROFILES.items() for key, value in each.items()]
    if options.json:
        context.console.json([{"profile": name, "setting": key, "value": value} for name, key, value in rows])
    else:
        shown_rows = [(name, key, shown(key, value)) for name, key, value in rows]
        context.console.table(("profile", "setting", "value"), shown_rows)
    return 0
