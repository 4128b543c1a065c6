"""How a setting's text becomes its value, and the folders that settings begin with.

Each cast returns the value, or raises ValueError with what is allowed.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

GB = 1000**3
DAY = 86_400.0

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": GB, "tb": 1000**4, "kib": 1024, "mib": 1024**2}
_UNITS |= {"gib": 1024**3, "tib": 1024**4}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": DAY, "w": 7 * DAY}


def user_cache_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return the folder in which this user's programs keep what can be made again.

    >>> user_cache_dir({"XDG_CACHE_HOME": "/x"}, "linux").as_posix()
    '/x/zit_ext'
    """
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return base / "zit_ext"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zit_ext"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zit_ext"


def user_config_file(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return where this user's settings file is, whether or not it exists."""
    if given := environ.get("ZIT_CONFIG"):
        return Path(given)
    if platform == "win32":
        return Path(environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "zit_ext" / "config.toml"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zit_ext" / "config.toml"
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "zit_ext" / "config.toml"


def user_data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Return the folder in which this user's programs keep what the user put there.

    >>> user_data_dir({"XDG_DATA_HOME": "/x"}, "linux").as_posix()
    '/x/zit_ext'
    """
    if platform == "win32":
        return Path(environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "zit_ext"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zit_ext"
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "zit_ext"


def as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def whole(least: int) -> Callable[[Any], int]:
    def cast(value: Any) -> int:
        if isinstance(value, bool):
            raise ValueError(f"a whole number from {least}")
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"a whole number from {least}") from None
        if (number != value and not isinstance(value, str)) or number < least:
            raise ValueError(f"a whole number from {least}")
        return number

    return cast


def as_bytes(value: Any) -> int | None:
    """
    >>> as_bytes("1.5 GB"), as_bytes(10), as_bytes("auto")
    (1500000000, 10, None)
    """
    allowed = 'bytes, such as 500000000, "500 MB" or "10 GiB"; 0 for no limit; or "auto"'
    if value is None or value == "auto":
        return None
    number, unit = _with_unit(value, _UNITS, allowed)
    return int(number * unit)


def some_bytes(value: Any) -> int:
    number = as_bytes(value)
    if number is None:
        raise ValueError('bytes, such as "256 MB"; 0 for none')
    return number


def duration(value: Any) -> float:
    """
    >>> duration("24h"), duration(-1)
    (86400.0, -1.0)
    """
    number, unit = _with_unit(value, _SECONDS, 'seconds, such as 3600, "90 min", "24h" or "7d"')
    return number * unit


def _with_unit(value: Any, units: Mapping[str, float], allowed: str) -> tuple[float, float]:
    match = re.fullmatch(r"\s*(-?[\d_]+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
    if isinstance(value, bool) or match is None or match[2] not in units:
        raise ValueError(allowed)
    if math.isinf(number := float(match[1])):
        raise ValueError(allowed)
    return number, units[match[2]]


def not_negative(cast: Callable[[Any], float]) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        number = cast(value)
        if number < 0:
            raise ValueError("a duration of 0 or more; 0 means without limit")
        return number

    return checked


def flag(value: Any) -> bool:
    """
    >>> flag("on"), flag("0"), flag(True)
    (True, False, True)
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("true or false")


def choice(*allowed: str) -> Callable[[Any], str]:
    def cast(value: Any) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return str(value)

    return cast


def names(value: Any) -> tuple[str, ...]:
    """
    >>> names("a, b"), names(["a"])
    (('a', 'b'), ('a',))
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
        raise ValueError("a list of names")
    return tuple(part for part in value if part)


def named_durations(value: Any) -> tuple[str, ...]:
    """
    >>> named_durations("org/model=-1, other=5 min")
    ('org/model=-1', 'other=5 min')
    """
    found = names(value)
    for each in found:
        name, _, seconds = each.rpartition("=")
        if not name.strip():
            raise ValueError("names with seconds, such as one=300, other=-1")
        duration(seconds)
    return found


def by_name(durations: tuple[str, ...]) -> dict[str, float]:
    """Return what `named_durations` let pass, as seconds by name.

    >>> by_name(("org/model=-1", "other=5 min"))
    {'org/model': -1.0, 'other': 300.0}
    """
    pairs = (each.rpartition("=") for each in durations)
    return {name.strip(): duration(seconds) for name, _, seconds in pairs}


def folders(value: Any) -> tuple[Path, ...]:
    if isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part]
    return tuple(as_path(part) for part in value)


def as_path(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError("a path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise ValueError("a path in a home that is there") from None


def some_file(value: Any) -> Path | None:
    """
    >>> some_file("off") is None
    True
    """
    return None if value is None or value in ("off", "none", "") else as_path(value)


def plugin_folder(value: Any) -> Path | None:
    """
    >>> plugin_folder("off") is None, plugin_folder("user").name
    (True, 'plugins')
    """
    if value is None or value in ("off", "auto", "none", ""):
        return None
    return user_data_dir(os.environ) / "plugins" if value == "user" else as_path(value)
