"""Everything that can go wrong, as a tree. Each error carries facts and builds its own message.

ZitError
├── RequestError            .field .value .remedy     the caller can mend the request
│   ├── SettingError                                  likewise, for a setting
│   └── NotCachedError      .key                      cache=only, and the answer is not there
├── ModelError              the weights are not usable
│   ├── ModelMissingError   .source .remedy
│   ├── PackageMissingError .package              this Python cannot render
│   └── OutOfMemoryError    .needed .free .device
├── GenerationStoppedError  somebody asked us to stop
├── QueueFullError          .limit .retry_after
├── EngineClosedError
├── ServerError             .reason .remedy           no model server can be had
├── PluginError             .plugin .message
│   ├── HookHangsError      .hook                     until a restart without the plugin
│   └── FieldClashError     .name .plugins
└── StoreError              stays inside the engine: costs a hit, never a picture
    ├── BlobCorruptError    .digest
    ├── StoreFullError      .needed
    └── StoreVersionError   .found .known
"""

from __future__ import annotations


class ZitError(Exception):
    """Base of every error this package raises on purpose."""


class RequestError(ZitError):
    """The request asks for something impossible; `remedy` says what to change."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} = {_shown(value)}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except Exception:  # a number of 5000 digits, a list in a list in a list, somebody's own class
        return f"(a {type(value).__name__} that cannot be shown)"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


class SettingError(RequestError):
    """A setting has a value that it cannot have."""


class NotCachedError(RequestError):
    """The caller wanted a stored answer or none (`cache=only`), and there is none."""

    def __init__(self, key: str | None, why: str) -> None:
        super().__init__("cache", "only", f"{why}; ask with cache=use to render it")
        self.key = key


class ModelError(ZitError):
    """The weights cannot be used."""


class ModelMissingError(ModelError):
    """No file holds the weights that the request names."""

    def __init__(self, source: str, remedy: str) -> None:
        super().__init__(f"no weights for {source!r}: {remedy}")
        self.source = source
        self.remedy = remedy


class PackageMissingError(ModelError):
    """This Python lacks a package that rendering needs."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"rendering Z-Image needs {package}, which is not installed: "
            "`zit-ext server provision` makes a Python that has it, for the model server; "
            "or pip install 'zit_ext[zimage]'"
        )
        self.package = package


class OutOfMemoryError(ModelError):
    """The weights or the render do not fit, even after everything idle was parked."""

    def __init__(self, *, needed: int, free: int, device: str) -> None:
        super().__init__(
            f"{needed:,} bytes of memory are needed on {device}, and {free:,} are free after making room; "
            "use a smaller size, a low-memory mode (offload=model or group) or fewer models"
        )
        self.needed = needed
        self.free = free
        self.device = device


class GenerationStoppedError(ZitError):
    """The generation was interrupted before it had a picture."""


class QueueFullError(ZitError):
    """Too many requests wait already."""

    def __init__(self, *, limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} requests wait already; try again in about {retry_after:.0f} seconds")
        self.limit = limit
        self.retry_after = retry_after


class EngineClosedError(ZitError):
    """The engine was asked for something after it was closed."""


class ServerError(ZitError):
    """No model server can be started or asked."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class PluginError(ZitError):
    """A plugin broke the contract of a hook."""

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"plugin {plugin!r}: {message}")
        self.plugin = plugin
        self.message = message


class HookHangsError(PluginError):
    """A hook does not return and holds the engine's thread: nothing is answered before a restart."""

    def __init__(self, plugin: str, hook: str) -> None:
        super().__init__(
            plugin,
            f"{hook} does not return (the log shows where it is); "
            f"restart with ZIT_DISABLED_PLUGINS={plugin}, and mend it",
        )
        self.hook = hook


class FieldClashError(PluginError):
    """Two plugins gave the same fingerprint field different values."""

    def __init__(self, name: str, plugins: tuple[str, str]) -> None:
        one, other = plugins
        super().__init__(one, f"and plugin {other!r} give fingerprint field {name!r} different values")
        self.name = name
        self.plugins = plugins


class StoreError(ZitError):
    """The result store failed. The engine answers without it."""


class BlobCorruptError(StoreError):
    """A blob's bytes no longer match what the index says of them."""

    def __init__(self, digest: str, what: str) -> None:
        super().__init__(f"blob {digest[:12]} is damaged ({what}); it was set aside")
        self.digest = digest


class StoreFullError(StoreError):
    """Nothing more may be evicted, and the new entry does not fit."""

    def __init__(self, needed: int, why: str) -> None:
        super().__init__(f"{needed:,} bytes do not fit: {why}")
        self.needed = needed


class StoreVersionError(StoreError):
    """The index was written by a newer version than this one, which must not write to it."""

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(
            f"the index has schema {found}; this version knows {known}. Renders go on without the store: "
            "upgrade zit_ext, or choose another cache_dir"
        )
        self.found = found
        self.known = known
