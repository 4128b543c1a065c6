"""Settings: each is declared once, here, and shown in the README, the CLI and both hosts.

A value comes from the defaults, a profile, a TOML file, `ZIT_*` variables or a host's page; the later
ones win, and `origin` remembers which it was.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import SettingError
from .records import TURBO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


# How a text becomes a value. Each returns the value or raises ValueError with what is allowed.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _whole(least: int) -> Callable[[Any], int]:
    def cast(value: Any) -> int:
        if isinstance(value, bool):
            raise ValueError(f"a whole number from {least}")
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise ValueError(f"a whole number from {least}") from None
        if (number != value and not isinstance(value, str)) or number < least:
            raise ValueError(f"a whole number from {least}")
        return number

    return cast


def _bytes(value: Any) -> int | None:
    """
    >>> _bytes("1.5 GB"), _bytes(10), _bytes("auto")
    (1500000000, 10, None)
    """
    allowed = 'bytes, such as 500000000, "500 MB" or "10 GiB"; 0 for no limit; or "auto"'
    if value is None or value == "auto":
        return None
    number, unit = _with_unit(value, _UNITS, allowed)
    return int(number * unit)


def _some_bytes(value: Any) -> int:
    number = _bytes(value)
    if number is None:
        raise ValueError('bytes, such as "256 MB"; 0 for none')
    return number


def _duration(value: Any) -> float:
    """
    >>> _duration("24h"), _duration(-1)
    (86400.0, -1.0)
    """
    number, unit = _with_unit(value, _SECONDS, 'seconds, such as 3600, "90 min", "24h" or "7d"')
    return number * unit


def _with_unit(value: Any, units: Mapping[str, float], allowed: str) -> tuple[float, float]:
    match = re.fullmatch(r"\s*(-?[\d_]+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
    if isinstance(value, bool) or match is None or match[2] not in units:
        raise ValueError(allowed)
    return float(match[1]), units[match[2]]


def _not_negative(cast: Callable[[Any], float]) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        number = cast(value)
        if number < 0:
            raise ValueError("a duration of 0 or more; 0 means without limit")
        return number

    return checked


def _flag(value: Any) -> bool:
    """
    >>> _flag("on"), _flag("0"), _flag(True)
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


def _choice(*allowed: str) -> Callable[[Any], str]:
    def cast(value: Any) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return str(value)

    return cast


def _names(value: Any) -> tuple[str, ...]:
    """
    >>> _names("a, b"), _names(["a"])
    (('a', 'b'), ('a',))
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
        raise ValueError("a list of names")
    return tuple(part for part in value if part)


def _folders(value: Any) -> tuple[Path, ...]:
    if isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part]
    return tuple(_path(part) for part in value)


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError("a path")
    return Path(value).expanduser().absolute()


def _plugin_dir(value: Any) -> Path | None:
    """
    >>> _plugin_dir("off") is None, _plugin_dir("user").name
    (True, 'plugins')
    """
    if value is None or value in ("off", "auto", "none", ""):
        return None
    return user_data_dir(os.environ) / "plugins" if value == "user" else _path(value)


def _setting(default: Any, cast: Callable[[Any], Any], help: str) -> Any:
    return field(default=default, metadata={"cast": cast, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the engine behaves. Frozen: to change a setting, make new settings."""

    # The result cache
    cache_dir: Path = _setting(
        user_cache_dir(os.environ), _path, "Folder of the index, the blobs and what is known of weights."
    )
    disable_cache: bool = _setting(False, _flag, "Neither look up nor keep results.")
    debug: bool = _setting(False, _flag, "Debug mode: the cache is bypassed, and logs say more.")
    max_bytes: int | None = _setting(
        None, _bytes, "Bytes of results to keep; auto is 10 GB or 10 % of the free disk, the smaller."
    )
    max_entries: int = _setting(1000, _whole(0), "Results to keep; 0 means no limit.")
    ttl_seconds: float = _setting(
        DAY, _not_negative(_duration), "How long a result may be used again; 0 means for ever."
    )
    sliding_ttl: bool = _setting(False, _flag, "Each use starts the time to live again.")
    eviction: str = _setting(
        "lru", _text, "What goes first when the store is full: lru, lfu, cost, or a plugin's."
    )
    memory_bytes: int = _setting(
        256_000_000, _some_bytes, "Bytes of results kept in memory too; 0 means none."
    )
    namespace: str = _setting("default", _text, "Whose results these are, where the request does not say.")
    consistency: str = _setting(
        "exact",
        _choice("exact", "portable"),
        "exact: a hit is what this machine would render, to the bit; portable: what some machine rendered.",
    )
    store_prompts: bool = _setting(True, _flag, "Keep prompts readable in the index; off keeps only digests.")
    durability: str = _setting(
        "normal",
        _choice("off", "normal", "full"),
        "What a power cut may cost: off and normal lose the newest results, full loses none.",
    )
    write_queue: int = _setting(
        32, _whole(1), "Results that may wait to be written; beyond it they are dropped."
    )
    claim_seconds: float = _setting(
        30.0,
        _not_negative(_duration),
        "How long a process that died blocks others from rendering its request.",
    )

    # What bypasses it
    bypass_dynamic_prompts: bool = _setting(
        True, _flag, "Bypass the cache for prompts with wildcards, alternatives and placeholders."
    )
    keep_random: bool = _setting(False, _flag, "Seed -1 is kept under the seed that was drawn.")
    long_prompts: str = _setting(
        "cut",
        _choice("cut", "refuse"),
        "What happens to a prompt longer than the model reads: cut (and say so) or refuse.",
    )

    # Weights
    model: str = _setting(
        TURBO, _text, "The model to use: a folder, a Hugging Face id, or a single file's name."
    )
    model_dirs: tuple[Path, ...] = _setting(
        (), _folders, "Folders with single-file weights, such as ComfyUI/models."
    )
    offline: bool = _setting(False, _flag, "Never ask the network for weights.")
    device: str = _setting("auto", _text, "auto, cpu, cuda, cuda:1, mps, xpu.")
    dtype: str = _setting(
        "auto", _choice("auto", "bfloat16", "float16", "float32"), "Number format of the weights."
    )
    attention: str = _setting("auto", _text, "Attention backend, by diffusers' name.")
    vae_tiling: bool = _setting(False, _flag, "Decode in tiles: less memory, other pixels.")
    offload: str = _setting(
        "none",
        _choice("none", "model", "group"),
        "Low-memory mode: model or group keep weights in RAM between steps.",
    )
    max_models: int = _setting(0, _whole(0), "Models held at once; 0 means as many as fit.")
    vram_bytes: int | None = _setting(None, _bytes, "Device memory that weights may occupy.")
    ram_bytes: int | None = _setting(None, _bytes, "RAM that parked weights may occupy.")
    keep_alive: float = _setting(
        300.0, _duration, "Seconds that idle weights stay near the GPU; -1 means for ever."
    )
    ram_keep_alive: float = _setting(
        3600.0, _duration, "Seconds that weights stay parked in RAM after that; -1 means for ever."
    )
    preload: tuple[str, ...] = _setting((), _names, "Models to load when the program starts.")
    load_timeout: float = _setting(
        900.0, _not_negative(_duration), "Seconds after which a load counts as hung."
    )
    queue_limit: int = _setting(64, _whole(1), "Requests that may wait for a device.")

    # Plugins
    disabled_plugins: tuple[str, ...] = _setting((), _names, "Plugins that are left out on purpose, by name.")
    plugin_dir: Path | None = _setting(
        None, _plugin_dir, "Folder of single-file plugins: off, user (in your data folder), or a path."
    )
    hook_seconds: float = _setting(
        2.0, _not_negative(_duration), "A hook that takes longer than this is reported as slow."
    )
    hook_slow_calls: int = _setting(
        3, _whole(0), "After so many slow calls in a row a plugin's requests bypass the cache; 0: never."
    )
    hook_hang_seconds: float = _setting(
        60.0,
        _not_negative(_duration),
        "A hook that has not returned by then counts as hung: its callers are let go.",
    )

    origin: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each setting that is not a default came from."""

    @classmethod
    def described(cls) -> tuple[Field[Any], ...]:
        """Return every setting, with default and help, for docs and settings pages."""
        return tuple(each for each in fields(cls) if "cast" in each.metadata)

    def with_values(self, values: Mapping[str, Any], origin: str) -> Settings:
        """Return these settings with others laid over them. Raises SettingError.

        >>> Settings().with_values({"max_bytes": "1 MB"}, "test").max_bytes
        1000000
        """
        known = {each.name: each.metadata["cast"] for each in self.described()}
        cast: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                near = _nearest(name, known)
                raise SettingError(name, value, f"there is no such setting ({origin}); nearest: {near}")
            try:
                cast[name] = known[name](value)
            except (ValueError, TypeError) as error:
                raise SettingError(name, value, f"allowed is {error} ({origin})") from None
        return replace(self, **cast, origin={**self.origin, **dict.fromkeys(cast, origin)})

    def with_profile(self, name: str, origin: str = "profile") -> Settings:
        """Return these settings with a profile's laid over them."""
        if name not in PROFILES:
            raise SettingError("profile", name, f"allowed is one of {', '.join(PROFILES)} ({origin})")
        return self.with_values(PROFILES[name], f"profile {name}")

    def with_file(self, path: Path) -> Settings:
        """Return these settings with those of a TOML file laid over them; a missing file changes nothing."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingError("config", str(path), f"the file cannot be read: {error}") from error
        profile = values.pop("profile", None)
        settings = self if profile is None else self.with_profile(profile, str(path))
        return settings.with_values(values, str(path))

    def with_env(self, environ: Mapping[str, str]) -> Settings:
        """Return these settings with `ZIT_<NAME>` variables (and DISABLE_CACHE) laid over them.

        >>> Settings().with_env({"ZIT_MAX_ENTRIES": "1_000", "DISABLE_CACHE": "1"}).disable_cache
        True
        """
        settings = self
        if profile := environ.get("ZIT_PROFILE"):
            settings = settings.with_profile(profile, "ZIT_PROFILE")
        for name in ("DISABLE_CACHE", *(f"ZIT_{each.name.upper()}" for each in self.described())):
            if (text := environ.get(name)) is not None and text != "":
                settings = settings.with_values({name.removeprefix("ZIT_").lower(): text}, name)
        return settings

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Return the user's settings: defaults < TOML file < variables."""
        base = cls(cache_dir=user_cache_dir(environ))
        return base.with_file(user_config_file(environ)).with_env(environ)


PROFILES: Mapping[str, Mapping[str, Any]] = {
    # Random seeds, every picture new: keep the weights near and the store out of the way.
    "explore": {"keep_alive": -1, "disable_cache": True},
    # A/B tests with fixed seeds: the same pictures again and again, the dear ones last to go.
    "compare": {"ttl_seconds": "30d", "eviction": "cost", "max_entries": 10_000},
    # An API for many users: weights ready before the first request, both layers on.
    "serve": {
        "keep_alive": -1,
        "preload": (TURBO,),
        "ttl_seconds": "24h",
        "max_entries": 100_000,
        "memory_bytes": "1 GB",
        "eviction": "cost",
    },
}
"""Settings that go together, as the founding article recommends them."""


def _nearest(name: str, known: Mapping[str, object]) -> str:
    return ", ".join(difflib.get_close_matches(name, known, n=2, cutoff=0.4)) or "see `zit-ext config`"
