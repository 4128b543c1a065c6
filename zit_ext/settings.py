"""Settings: each is declared once, here, and shown in the README, the CLI and both hosts.

A value comes from the defaults, a profile, a TOML file, `ZIT_*` variables or a host's page; the later
ones win, and `origin` remembers which it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .errors import SettingError
from .nearest import nearest
from .records import TURBO
from .setting_values import (
    DAY,
    as_bytes,
    as_path,
    as_text,
    choice,
    duration,
    flag,
    folders,
    named_durations,
    names,
    not_negative,
    plugin_folder,
    some_bytes,
    some_file,
    user_cache_dir,
    user_config_file,
    user_data_dir,
    whole,
)


def _parsed(toml: str) -> dict[str, Any]:
    # Imported where there is a file: most people have none.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    parsed: dict[str, Any] = tomllib.loads(toml)
    return parsed


def _setting(default: Any, cast: Callable[[Any], Any], help: str) -> Any:
    return field(default=default, metadata={"cast": cast, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the engine behaves. Frozen: to change a setting, make new settings."""

    # The result cache
    cache_dir: Path = _setting(
        user_cache_dir(os.environ), as_path, "Folder of the index, the blobs and what is known of weights."
    )
    disable_cache: bool = _setting(False, flag, "Neither look up nor keep results.")
    debug: bool = _setting(False, flag, "Debug mode: the cache is bypassed, and logs say more.")
    max_bytes: int | None = _setting(
        None, as_bytes, "Bytes of results to keep; auto is 10 GB or 10 % of the free disk, the smaller."
    )
    max_entries: int = _setting(1000, whole(0), "Results to keep; 0 means no limit.")
    ttl_seconds: float = _setting(
        DAY, not_negative(duration), "How long a result may be used again; 0 means for ever."
    )
    sliding_ttl: bool = _setting(False, flag, "Each use starts the time to live again.")
    eviction: str = _setting(
        "lru", as_text, "What goes first when the store is full: lru, lfu, cost, or a plugin's."
    )
    memory_bytes: int = _setting(
        256_000_000,
        some_bytes,
        "Bytes of results kept in memory too, beside the rows of 2,000 others; 0: neither.",
    )
    namespace: str = _setting("default", as_text, "Whose results these are, where the request does not say.")
    consistency: str = _setting(
        "exact",
        choice("exact", "portable"),
        "exact: a hit is what this machine would render, to the bit; portable: what some machine rendered.",
    )
    store_prompts: bool = _setting(True, flag, "Keep prompts readable in the index; off keeps only digests.")
    durability: str = _setting(
        "normal",
        choice("off", "normal", "full"),
        "What a power cut may cost: off and normal lose the newest results, full loses none.",
    )
    write_queue: int = _setting(
        32, whole(1), "Results that may wait to be written; beyond it they are dropped."
    )
    claim_seconds: float = _setting(
        30.0,
        not_negative(duration),
        "How long a process that died blocks others from rendering its request.",
    )

    # What bypasses it
    bypass_dynamic_prompts: bool = _setting(
        True, flag, "Bypass the cache for prompts with wildcards, alternatives and placeholders."
    )
    keep_random: bool = _setting(False, flag, "Seed -1 is kept under the seed that was drawn.")
    long_prompts: str = _setting(
        "cut",
        choice("cut", "refuse"),
        "What happens to a prompt longer than the model reads: cut (and say so) or refuse.",
    )

    # Weights
    model: str = _setting(
        TURBO, as_text, "The model to use: a folder, a Hugging Face id, or a single file's name."
    )
    model_dirs: tuple[Path, ...] = _setting(
        (), folders, "Folders with single-file weights, such as ComfyUI/models."
    )
    offline: bool = _setting(False, flag, "Never ask the network for weights.")
    device: str = _setting(
        "auto",
        as_text,
        "auto, cpu, cuda, cuda:1, mps, xpu; several GPUs with commas between: cuda:0, cuda:1.",
    )
    dtype: str = _setting(
        "auto", choice("auto", "bfloat16", "float16", "float32"), "Number format of the weights."
    )
    attention: str = _setting("auto", as_text, "Attention backend, by diffusers' name.")
    vae_tiling: bool = _setting(False, flag, "Decode in tiles: less memory, other pixels.")
    offload: str = _setting(
        "none",
        choice("none", "model", "group"),
        "Low-memory mode: model or group keep weights in RAM between steps.",
    )
    max_models: int = _setting(0, whole(0), "Models held at once; 0 means as many as fit.")
    vram_bytes: int | None = _setting(None, as_bytes, "Device memory that weights may occupy.")
    ram_bytes: int | None = _setting(None, as_bytes, "RAM that parked weights may occupy.")
    keep_alive: float = _setting(
        300.0, duration, "Seconds that idle weights stay near the GPU; -1 means for ever."
    )
    model_keep_alive: tuple[str, ...] = _setting(
        (), named_durations, "keep_alive of single models, such as Tongyi-MAI/Z-Image-Turbo=-1."
    )
    ram_keep_alive: float = _setting(
        3600.0, duration, "Seconds that weights stay parked in RAM after that; -1 means for ever."
    )
    preload: tuple[str, ...] = _setting(
        (), names, "Models to load when `zit-ext serve` or the model server starts."
    )
    load_timeout: float = _setting(
        900.0, not_negative(duration), "Seconds after which a load counts as hung."
    )
    queue_limit: int = _setting(64, whole(1), "Requests that may wait for a device.")

    # Who renders
    renderer: str = _setting(
        "auto",
        choice("auto", "local", "server"),
        "Who renders: local (this program), server (a model server that outlives it), or auto.",
    )
    server_idle_timeout: float = _setting(
        1800.0,
        not_negative(duration),
        "Seconds without a request after which the model server ends; 0 means never.",
    )
    server_start_timeout: float = _setting(
        120.0, not_negative(duration), "Seconds that a model server may take to start."
    )
    server_python: str = _setting(
        "auto", as_text, "The Python that runs the model server: auto, or the path of an interpreter."
    )
    data_dir: Path = _setting(
        user_data_dir(os.environ),
        as_path,
        "Folder of the model server (state, log, Python) and of the ledger of devices.",
    )

    # The HTTP API
    http_tokens: Path | None = _setting(
        None, some_file, "File of the tokens that clients must send; off: none, on loopback only."
    )
    http_hosts: tuple[str, ...] = _setting(
        (), names, "Names of this server that clients may use beside localhost and its addresses."
    )
    http_origins: tuple[str, ...] = _setting(
        (), names, "Pages of other sites that may ask, such as https://example.org (CORS)."
    )
    http_max_body: int = _setting(32_000_000, some_bytes, "Bytes that the body of an HTTP request may have.")
    http_max_streams: int = _setting(64, whole(1), "Streams of progress that may be open at once.")
    http_rate: float = _setting(
        0.0, not_negative(duration), "Pictures that one token may ask for in a second; 0 means no limit."
    )
    http_timeout: float = _setting(
        600.0, not_negative(duration), "Seconds after which an HTTP client is told to come back later."
    )
    http_patience: float = _setting(
        30.0, not_negative(duration), "Seconds that renders may still take when the HTTP server ends."
    )
    http_memory_bytes: int = _setting(
        64_000_000, some_bytes, "Bytes of pictures that the HTTP server holds at hand by their digest."
    )

    log_format: str = _setting(
        "text",
        choice("text", "json"),
        "What `zit-ext` and the model server log: text, or JSON lines with the id of the HTTP request.",
    )

    # Plugins
    disabled_plugins: tuple[str, ...] = _setting((), names, "Plugins that are left out on purpose, by name.")
    plugin_dir: Path | None = _setting(
        None, plugin_folder, "Folder of single-file plugins: off, user (in your data folder), or a path."
    )
    hook_seconds: float = _setting(
        2.0, not_negative(duration), "A hook that takes longer than this is reported as slow."
    )
    hook_slow_calls: int = _setting(
        3, whole(0), "After so many slow calls in a row a plugin's requests bypass the cache; 0: never."
    )
    hook_hang_seconds: float = _setting(
        60.0,
        not_negative(duration),
        "A hook that has not returned by then counts as hung: its callers are let go.",
    )

    # ComfyUI
    trusted_packs: tuple[str, ...] = _setting(
        (), names, "ComfyUI packs known to name every file they read: Cache (any) may keep what they make."
    )

    node_cache: bool = _setting(
        False, flag, "ComfyUI from 0.18: keep what costly nodes of any workflow compute, without a new node."
    )
    node_cache_classes: tuple[str, ...] = _setting(
        (
            "KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced",
            "VAEDecode", "VAEDecodeTiled", "CLIPTextEncode",
        ),
        names,
        "The classes of nodes that node_cache is about.",
    )  # fmt: skip

    origin: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each setting that is not a default came from."""

    def __post_init__(self) -> None:
        # Opened again and again, by threads and by processes that stand elsewhere: said once, from where
        # we stand now. Without links followed and `~`: that is the casts' business.
        for name in ("cache_dir", "data_dir"):
            object.__setattr__(self, name, Path(getattr(self, name)).absolute())

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
                near = _nearest(name, {*known, "profile"})
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
            values = _parsed(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self
        except (OSError, ValueError, RecursionError) as error:  # not UTF-8, or not TOML
            raise SettingError("config", path.name, f"{path} cannot be read: {error}") from error
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
        try:
            base = cls(cache_dir=user_cache_dir(environ), data_dir=user_data_dir(environ))
            file = user_config_file(environ)
        except RuntimeError as error:  # a user without a home, as in some containers
            remedy = "set HOME, or XDG_CACHE_HOME, XDG_DATA_HOME and XDG_CONFIG_HOME"
            raise SettingError("cache_dir", None, f"{remedy} ({error})") from None
        return base.with_file(file).with_env(environ)


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


def _nearest(name: str, known: Collection[str]) -> str:
    return ", ".join(nearest(name, known)) or "see `zit-ext config`"
