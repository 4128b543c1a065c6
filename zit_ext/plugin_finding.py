"""Finds plugins and registers them, or says by name what is wrong with them. Calls no hook.

Where they come from, in the order in which hooks ask them (`docs/plugins.md`, "Who is asked first"):

1. hosts, which register their own hooks when they start; the last one first
2. single files in the folder of the setting `plugin_dir`, by name; off unless it is set
3. installed packages with an entry point in the group `zit_ext`, by name
4. the built-in ones
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pluggy

from . import hookspecs
from .default_plugins import core_fields, dynamic_prompts, eviction
from .default_plugins import log as log_plugin
from .errors import PluginError
from .plugin_checks import Declared, WrongError, check_hooks, check_name, declared_by, passes
from .plugin_trouble import Troubles
from .plugin_watch import WATCH, Call

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

log = logging.getLogger(__name__)

GROUP = "zit_ext"
"""The entry points of plugins."""

DEFAULT_PLUGINS: Mapping[str, ModuleType] = {
    "core": core_fields,
    "dynamic_prompts": dynamic_prompts,
    "eviction": eviction,
    "log": log_plugin,
}

BUILT_IN = frozenset({*DEFAULT_PLUGINS, "metrics", "zimage"})
"""Names that are taken: these and what the runtime registers when it starts."""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What is known of one plugin, for logs, `zit-ext plugins` and the dashboard."""

    name: str
    origin: str
    """built in, host, package NAME VERSION, or file NAME."""
    hooks: tuple[str, ...] = ()
    fields_version: int = 1
    touches: tuple[str, ...] = ()
    """Media types that it has to do with; none means all."""
    broken: str | None = None
    """Why it was left out; requests that it touches bypass the cache until it is mended or disabled."""
    disabled: bool = False

    @property
    def state(self) -> str:
        """on, broken or disabled."""
        return "disabled" if self.disabled else "broken" if self.broken else "on"

    def touches_type(self, media_type: str) -> bool:
        """Tell whether the plugin has to do with requests for this.

        >>> PluginReport("speech", "host", touches=("audio/*",)).touches_type("image/png")
        False
        """
        return Declared(touches=self.touches).touches_type(media_type)


@dataclass(slots=True)
class Plugins:
    """The registered plugins, and what became of those that could not be."""

    manager: pluggy.PluginManager
    reports: dict[str, PluginReport] = field(default_factory=dict)
    troubles: Troubles = field(default_factory=Troubles)
    disabled: frozenset[str] = frozenset()

    def register(self, plugin: object, name: str, origin: str = "host") -> None:
        """Add a plugin, or raise PluginError that says what is wrong with it.

        One that is disabled is left out silently, even if a host brings it.
        """
        if self.manager.get_plugin(name) is plugin:
            return
        if name in self.disabled and name != "core":
            self.reports[name] = PluginReport(name, origin, disabled=True)
            return
        try:
            check_name(name)
            declared = declared_by(plugin)
            hooks = check_hooks(plugin)
            # Known before the first thread can ask it.
            report = PluginReport(name, origin, hooks, declared.fields_version, declared.touches)
            before = self.reports.get(name)
            if before is not None and before.origin == origin == "built in" and before.hooks:
                self.manager.unregister(name=name)  # a second engine brings its own
            self.reports[name] = report
            try:
                self.manager.register(plugin, name=name)
                self.manager.check_pending()
            except BaseException:
                self.reports.pop(name)
                if before is not None:
                    self.reports[name] = before
                raise
        except Exception as error:
            if self.manager.get_plugin(name) is plugin:
                self.manager.unregister(plugin)
            raise PluginError(name, words_of(error)) from error

    def leave_out(self, name: str, origin: str, reason: str, touches: tuple[str, ...] = ()) -> None:
        """Remember a plugin that is broken: what it does to pictures is unknown, so nothing may hit.

        `touches` is what it declares; a plugin that cannot even be imported touches everything.
        """
        log.error("plugin %r (%s) was left out: %s", name, origin, reason)
        self.reports[name] = PluginReport(name, origin, touches=touches, broken=reason)
        self.troubles.add(name, "", "left_out", reason)

    def broken(self, media_type: str | None = None) -> PluginReport | None:
        """Return a plugin that was left out and touches this media type (None: any), if there is one."""
        for report in list(self.reports.values()):  # a host may bring its plugin just now
            if report.broken and (media_type is None or report.touches_type(media_type)):
                return report
        return None


def find_plugins(
    *,
    disabled: Iterable[str] = (),
    folder: Path | None = None,
    entry_points: bool = True,
    troubles: Troubles | None = None,
    slow_seconds: float = 0.0,
    hang_seconds: float = 0.0,
) -> Plugins:
    """Return the default plugins, the installed ones and those in the folder.

    What cannot be loaded is left out and reported; nothing is raised. What is disabled is not even
    imported. An import that takes longer than `slow_seconds` is named, and one that does not end within
    `hang_seconds` while it still runs; 0 means never.
    """
    manager = pluggy.PluginManager("zit_ext")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, troubles=troubles or Troubles(), disabled=frozenset(disabled))
    imports = _Imports(plugins.troubles, slow_seconds, hang_seconds)
    for name, module in DEFAULT_PLUGINS.items():
        plugins.register(module, name, "built in")
    if entry_points:
        _add_all(plugins, _packages(), imports)
    if folder is not None:
        _add_all(plugins, _files(folder), imports)
    return plugins


_Candidate = tuple[str, str, Callable[[], object]]


def _add_all(plugins: Plugins, candidates: Iterable[_Candidate], imports: _Imports) -> None:
    for name, origin, load in candidates:
        # Two of one name are told apart by where they come from: that is how the second one is disabled.
        longer = f"{name} ({origin})"
        if longer in plugins.disabled:
            plugins.reports[longer] = PluginReport(longer, origin, disabled=True)
        elif name in BUILT_IN:
            plugins.leave_out(longer, origin, f"a built-in plugin is called {name!r}")
        elif name in plugins.disabled:
            plugins.reports[name] = PluginReport(name, origin, disabled=True)
        elif name in plugins.reports:
            plugins.leave_out(longer, origin, f"another plugin is called {name!r} already")
        else:
            _add(plugins, name, origin, lambda name=name, load=load: imports.watch(name, load))  # type: ignore[misc]


class _Imports(NamedTuple):
    """Notices imports that take long: a program that starts waits for each of them."""

    troubles: Troubles
    slow_seconds: float
    hang_seconds: float

    def watch(self, name: str, load: Callable[[], object]) -> object:
        call = Call(name, "its import", self.hang_seconds, self._hangs)
        started = time.perf_counter()
        WATCH.begin(call)
        try:
            return load()
        finally:
            WATCH.end(call)
            seconds = time.perf_counter() - started
            if 0 < self.slow_seconds < seconds:
                log.warning("plugin %r took %.1f s to be imported", name, seconds)
                self.troubles.add(name, "", "slow", f"its import took {seconds:.1f} s")

    def _hangs(self, call: Call, stack: str) -> None:
        words = f"its import did not end within {call.limit:g} s"
        log.error("plugin %r: %s; it is here:\n%s", call.plugin, words, stack)
        self.troubles.add(call.plugin, "", "hung", f"{words}; it is here:\n{stack}")


def _add(plugins: Plugins, name: str, origin: str, load: Callable[[], object]) -> None:
    touches: tuple[str, ...] = ()
    try:
        plugin = load()
        touches = declared_by(plugin).touches
        plugins.register(plugin, name, origin)
    except PluginError as error:
        plugins.leave_out(name, origin, error.message, touches)
    except BaseException as error:  # a plugin may call sys.exit() while it is imported
        if passes(error):
            raise
        plugins.leave_out(name, origin, words_of(error))


def entry_points_of(group: str) -> Iterable[EntryPoint]:
    """Return the entry points of all installed packages in this group."""
    from importlib.metadata import entry_points  # slow to import, and not everybody looks for plugins

    return entry_points(group=group)


def _packages() -> Iterator[_Candidate]:
    try:
        points = list(entry_points_of(group=GROUP))
    except Exception as error:
        # One package that was installed badly, ours or not, spoils the list of all.
        log.warning("the list of installed packages is damaged, and is read one by one: %s", words_of(error))
        points, damaged = _one_by_one()
        yield from damaged
    # pluggy asks the last registered first: from Z to A, then, so that A is asked before Z.
    for point in sorted(points, key=lambda each: each.name, reverse=True):
        origin = f"package {point.dist.name} {point.dist.version}" if point.dist else f"package {point.value}"
        yield point.name, origin, point.load


def _one_by_one() -> tuple[list[EntryPoint], list[_Candidate]]:
    """Return the plugins' entry points, and whoever seems to have some that cannot be read."""
    from importlib.metadata import distributions

    points: list[EntryPoint] = []
    damaged: list[_Candidate] = []
    seen: set[str] = set()
    for package in distributions():
        name = str(package.metadata["Name"])
        if name in seen:
            continue  # the first one on the path is the one that is imported
        seen.add(name)
        try:
            points += [each for each in package.entry_points if each.group == GROUP]
        except Exception as error:
            if _mentions_us(package):
                damaged.append((re.sub(r"[^A-Za-z0-9]+", "-", name), f"package {name}", _raising(error)))
    return points, damaged


def _mentions_us(package: Distribution) -> bool:
    try:
        return f"[{GROUP}]" in (package.read_text("entry_points.txt") or "")
    except ValueError:  # no text in UTF-8
        return True


def _raising(error: Exception) -> Callable[[], object]:
    def load() -> object:
        raise error

    return load


def _files(folder: Path) -> Iterator[_Candidate]:
    try:
        names = [each.name for each in os.scandir(folder)]
    except FileNotFoundError:
        log.warning(
            "the folder of single-file plugins (plugin_dir), %s, is not there: "
            "make it, name another, or set plugin_dir = off",
            folder,
        )
        return
    except OSError as error:
        # There may be plugins in it whose effect is still there.
        yield "plugin_dir", f"folder {folder}", _raising(error)
        return
    paths = sorted(
        (folder / name for name in names if name.endswith(".py") and not name.startswith(("_", "."))),
        reverse=True,
    )
    log.info(
        "single-file plugins in %s: %s", folder, ", ".join(path.stem for path in reversed(paths)) or "none"
    )
    for path in paths:
        yield path.stem, f"file {path.name}", lambda path=path: _load_file(path)  # type: ignore[misc]


def _load_file(path: Path) -> ModuleType:
    _refuse_open_door(path)
    name = f"zit_ext_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_open_door(path: Path) -> None:
    """Raise PermissionError for a file that any user of this machine may write or add: it would run as us."""
    if os.name != "posix":
        return
    file, folder = path.stat(), path.parent.stat()
    for each, found in ((path, file), (path.parent, folder)):
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            raise PermissionError(f"everybody may write to {each}; take that away (chmod o-w)")
    # In a folder such as /tmp nobody may change the file of another one, but everybody may add one.
    if folder.st_mode & stat.S_IWOTH and file.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"everybody may put files into {path.parent}, and {path} is somebody else's")


def words_of(error: BaseException) -> str:
    """Return an exception in words: its type, and what it says."""
    if isinstance(error, PluginError):
        return error.message
    if isinstance(error, WrongError):
        return str(error)
    try:
        said = str(error)
    except Exception:
        said = "(it cannot say what)"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
