"""Finds plugins, and calls hooks in a typed way. The only module that talks to pluggy.

Each plugin is called by itself, so that whoever fails is named, and the others are still heard.
"""

from __future__ import annotations

import contextvars
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points as entry_points_of
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from . import hookspecs
from .default_plugins import core_fields, dynamic_prompts, eviction
from .default_plugins import log as log_plugin
from .errors import PluginError, ZitError
from .fingerprint import canonical_bytes, merge_fields
from .policy import Bypass
from .records import Entry, FieldValue, ModelRef, Request, Result

if TYPE_CHECKING:
    from .models.pipeline import Pipeline

log = logging.getLogger(__name__)

DEFAULT_PLUGINS: Mapping[str, ModuleType] = {
    "core": core_fields,
    "dynamic_prompts": dynamic_prompts,
    "eviction": eviction,
    "log": log_plugin,
}

_inside: contextvars.ContextVar[str | None] = contextvars.ContextVar("zit_ext_hook", default=None)


def hook_running() -> str | None:
    """Return the hook that runs on this thread just now, or None: the engine refuses calls from inside."""
    return _inside.get()


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What is known of one plugin, for logs, `zit-ext plugins` and the dashboard."""

    name: str
    origin: str
    hooks: tuple[str, ...] = ()
    fields_version: int = 1
    broken: str | None = None
    """Why it was left out; requests bypass the cache until it is mended or disabled on purpose."""
    disabled: bool = False


@dataclass(slots=True)
class Plugins:
    """The registered plugins, and what became of those that could not be."""

    manager: pluggy.PluginManager
    reports: dict[str, PluginReport] = field(default_factory=dict)

    def register(self, plugin: object, name: str, origin: str = "host") -> None:
        """Add a plugin, or raise PluginError that says what is wrong with it."""
        if self.manager.get_plugin(name) is plugin:
            return
        try:
            self.manager.register(plugin, name=name)
            self._check(plugin, name)
        except Exception as error:
            if self.manager.get_plugin(name) is plugin:
                self.manager.unregister(plugin)
            raise PluginError(name, _reason(error)) from error
        hooks = tuple(sorted(caller.name for caller in self.manager.get_hookcallers(plugin) or ()))
        self.reports[name] = PluginReport(name, origin, hooks, _fields_version(plugin, name))

    def leave_out(self, name: str, origin: str, reason: str) -> None:
        """Remember a plugin that is broken: what it does to pictures is unknown, so nothing may hit."""
        log.error("plugin %r (%s) was left out: %s", name, origin, reason)
        self.reports[name] = PluginReport(name, origin, broken=reason)

    def broken(self) -> PluginReport | None:
        return next((report for report in self.reports.values() if report.broken), None)

    def _check(self, plugin: object, name: str) -> None:
        self.manager.check_pending()
        for caller in self.manager.get_hookcallers(plugin) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin and (impl.hookwrapper or impl.wrapper):
                    raise PluginError(name, f"{caller.name} is a wrapper; return an answer instead")
        _fields_version(plugin, name)


def find_plugins(
    *,
    disabled: Iterable[str] = (),
    folder: Path | None = None,
    entry_points: bool = True,
) -> Plugins:
    """Return the default plugins, the installed ones and those in the folder.

    What cannot be loaded is left out and reported; nothing is raised.
    """
    manager = pluggy.PluginManager("zit_ext")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    off = set(disabled)
    for name, module in DEFAULT_PLUGINS.items():
        if name in off and name != "core":
            plugins.reports[name] = PluginReport(name, "built in", disabled=True)
        else:
            plugins.register(module, name, "built in")
    for name, origin, load in _candidates(folder, entry_points):
        if name in off:
            plugins.reports[name] = PluginReport(name, origin, disabled=True)
        elif name in plugins.reports:
            plugins.leave_out(f"{name} ({origin})", origin, f"another plugin is called {name!r} already")
        else:
            try:
                plugins.register(load(), name, origin)
            except Exception as error:
                plugins.leave_out(name, origin, _reason(error))
    return plugins


def _candidates(folder: Path | None, entry_points: bool) -> Iterator[tuple[str, str, Callable[[], object]]]:
    if entry_points:
        for point in entry_points_of(group="zit_ext"):
            yield point.name, f"package {point.dist.name if point.dist else point.value}", point.load
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob("*.py")):
            yield path.stem, f"file {path.name}", lambda path=path: _load_file(path)  # type: ignore[misc]


def _load_file(path: Path) -> ModuleType:
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


def _fields_version(plugin: object, name: str) -> int:
    version = getattr(plugin, "fields_version", 1)
    if not isinstance(version, int) or isinstance(version, bool):
        raise PluginError(name, f"fields_version is {version!r}; give a whole number")
    return version


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Hooks:
    """One typed method per hook, each saying how the plugins' answers become one answer.

    Whatever a plugin raises leaves here as a PluginError that names it; what that costs is the
    engine's choice.
    """

    def __init__(
        self,
        plugins: Plugins,
        *,
        slow_after: float = 2.0,
        report: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.plugins = plugins
        self._slow_after = slow_after
        self._report = report

    def fingerprint_fields(self, request: Request) -> dict[str, FieldValue]:
        """Return all fields, those of plugins under `plugin.field`. Raises FieldClashError, PluginError."""
        contributions = []
        for name, answer in self._answers("zit_fingerprint_fields", request=request):
            if answer is None:
                continue
            if not isinstance(answer, Mapping):
                raise PluginError(
                    name, f"zit_fingerprint_fields gave a {type(answer).__name__}, not a mapping"
                )
            contributions.append((name, answer if name == "core" else self._namespaced(name, answer)))
        return merge_fields(contributions)

    def bypass(self, request: Request) -> Bypass | None:
        """Return the first plugin's reason, if any."""
        if broken := self.plugins.broken():
            words = f"plugin {broken.name!r} is broken ({broken.broken}); mend it or disable it"
            return Bypass("plugin_broken", words)
        for name, answer in self._answers("zit_bypass_reason", request=request):
            if answer is None:
                continue
            if not isinstance(answer, str):
                raise PluginError(name, f"zit_bypass_reason gave a {type(answer).__name__}, not text")
            return Bypass(name, answer)
        return None

    def eviction_score(self, policy: str, entry: Entry, floor: float) -> float:
        """Return the first plugin's score for the policy. Raises PluginError if none knows it."""
        for name, answer in self._answers("zit_eviction_score", policy=policy, entry=entry, floor=floor):
            if answer is None:
                continue
            if isinstance(answer, bool) or not isinstance(answer, (int, float)) or answer != answer:
                raise PluginError(name, f"zit_eviction_score gave {answer!r}, not a number")
            return float(answer)
        raise PluginError("eviction", f"no plugin knows the policy {policy!r}")

    def open_pipeline(self, model: ModelRef) -> Pipeline | None:
        """Return the first pipeline that a plugin opens. A ModelError of a plugin passes as it is."""
        failed: PluginError | None = None
        for name, impl in self._implementations("zit_open_pipeline"):
            try:
                pipeline: Pipeline | None = self._call(name, impl, {"model": model}, timed=False)
            except PluginError as error:
                if isinstance(error.__cause__, ZitError):
                    raise error.__cause__ from None
                log.warning("%s; the next plugin is asked", error, exc_info=error.__cause__)
                failed = error
                continue
            if pipeline is not None:
                return pipeline
        if failed is not None:
            raise failed
        return None

    def make_room(self, bytes_needed: int, device: str) -> int:
        """Return how many bytes the plugins freed together; one that fails is logged and counts as 0."""
        freed = 0
        for name, impl in self._implementations("zit_make_room"):
            try:
                answer = self._call(name, impl, {"bytes_needed": bytes_needed, "device": device}, timed=False)
                freed += int(answer or 0)
            except (PluginError, TypeError, ValueError) as error:
                self._shrug(name, error, "loading all the same")
        return freed

    def request_finished(self, request: Request, result: Result, seconds: float) -> None:
        """Tell all plugins; one that fails is logged."""
        told = {"request": request, "result": result, "seconds": seconds}
        for name, impl in self._implementations("zit_request_finished"):
            try:
                self._call(name, impl, told)
            except PluginError as error:
                self._shrug(name, error, "the request was answered")

    def _namespaced(self, name: str, answer: Mapping[Any, FieldValue]) -> dict[str, FieldValue]:
        fields = {(f"{name}.{each}" if "." not in str(each) else str(each)): answer[each] for each in answer}
        for field_name, value in fields.items():
            canonical_bytes({field_name: value})
        if fields:
            fields[f"{name}.fields_version"] = self.plugins.reports[name].fields_version
        return fields

    def _answers(self, hook: str, **arguments: object) -> Iterator[tuple[str, Any]]:
        for name, impl in self._implementations(hook):
            yield name, self._call(name, impl, arguments)

    def _implementations(self, hook: str) -> Sequence[tuple[str, Any]]:
        caller = getattr(self.plugins.manager.hook, hook)
        # pluggy keeps the implementations in the reverse of the order in which it calls them.
        return [(impl.plugin_name, impl) for impl in reversed(caller.get_hookimpls())]

    def _call(self, name: str, impl: Any, arguments: Mapping[str, object], *, timed: bool = True) -> Any:
        started = time.perf_counter()
        with _inside_hook(f"{name}.{impl.function.__name__}"):
            try:
                return impl.function(*[arguments[each] for each in impl.argnames])
            except PluginError:
                raise
            except Exception as error:
                raise PluginError(name, f"{impl.function.__name__} failed: {_reason(error)}") from error
            finally:
                seconds = time.perf_counter() - started
                if timed and self._slow_after and seconds > self._slow_after:
                    log.warning("plugin %r took %.1f s in %s", name, seconds, impl.function.__name__)
                    self._report("plugin_slow")

    def _shrug(self, name: str, error: Exception, consequence: str) -> None:
        log.warning("%s; %s", error, consequence, exc_info=error)
        self._report("plugin_failed")


@contextmanager
def _inside_hook(name: str) -> Iterator[None]:
    token = _inside.set(name)
    try:
        yield
    finally:
        _inside.reset(token)
