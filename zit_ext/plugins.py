"""One typed method per hook: how the plugins' answers become one answer. Nobody else sees pluggy.

Each plugin is called by itself, so that whoever fails is named, and the others are still heard. What a
failure costs is the engine's choice; the table in `docs/plugins.md` is the promise.

Siblings: `plugin_finding` registers, `plugin_checks` says what is right, `plugin_calls` calls and times,
`plugin_watch` notices who never returns, `plugin_trouble` remembers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .errors import PluginError, ZitError
from .fingerprint import merge_fields
from .plugin_calls import Calls, Limits, hook_running
from .plugin_checks import check_pipeline, freed_bytes, plain_fields, reason_words, score_number
from .plugin_finding import PluginReport, Plugins, find_plugins
from .plugin_trouble import Trouble, Troubles
from .plugin_watch import Call
from .policy import Bypass
from .records import Entry, FieldValue, ModelRef, Request, Result

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = [
    "Hooks",
    "Limits",
    "PluginReport",
    "Plugins",
    "Trouble",
    "Troubles",
    "find_plugins",
    "hook_running",
]

log = logging.getLogger(__name__)

_IDENTITY_HOOKS = ("zit_fingerprint_fields", "zit_bypass_reason")
"""Without their answers nobody knows which picture is asked for."""


class Hooks:
    """The plugins, asked in their order. Whatever one of them raises leaves here as a PluginError."""

    def __init__(
        self,
        plugins: Plugins,
        *,
        slow_after: float = 2.0,
        limits: Limits | None = None,
        report: Callable[[str], None] = lambda name: None,
        hung: Callable[[Call], None] = lambda call: None,
    ) -> None:
        self.plugins = plugins
        self._report = report
        self._failed_to_open: dict[tuple[object, ...], frozenset[str]] = {}
        self._calls = Calls(
            limits or Limits(seconds=slow_after),
            plugins.troubles,
            report,
            hung=hung,
            spared=lambda name: plugins.reports[name].origin == "built in",
        )

    def fingerprint_fields(self, request: Request) -> dict[str, FieldValue]:
        """Return all fields, those of plugins under `plugin.field`. Raises FieldClashError, PluginError."""
        hook = "zit_fingerprint_fields"
        contributions = []
        for name, implementation in self._touching(hook, request):
            if name == "core":
                contributions.append((name, self._calls.ask(hook, implementation, {"request": request})))
                continue
            self._refuse_off(name, hook)
            version = self.plugins.reports[name].fields_version

            def understood(answer: object, name: str = name, version: int = version) -> dict[str, FieldValue]:
                return plain_fields(name, version, answer)

            answer = self._calls.ask(hook, implementation, {"request": request}, understood)
            contributions.append((name, answer or {}))
        return merge_fields(contributions)

    def bypass(self, request: Request) -> Bypass | None:
        """Return why this request must not use the cache, if a plugin is broken, too slow, or says so."""
        if broken := self.plugins.broken(request.media_type):
            words = f"plugin {broken.name!r} is broken ({broken.broken}); mend it or disable it"
            return Bypass("plugin_broken", words)
        if slow := self._too_slow(request):
            return slow
        hook = "zit_bypass_reason"
        for name, implementation in self._touching(hook, request):
            words = self._calls.ask(hook, implementation, {"request": request}, reason_words)
            if words is not None:
                return Bypass(name, words)
        return None

    def eviction_score(self, policy: str, entry: Entry, floor: float) -> float:
        """Return the first plugin's score for the policy. Raises PluginError if none knows it."""
        hook = "zit_eviction_score"
        arguments = {"policy": policy, "entry": entry, "floor": floor}
        for name, implementation in self._implementations(hook):
            if self._calls.why_off(name, hook):
                continue
            score: float | None = self._calls.ask(hook, implementation, arguments, score_number)
            if score is not None:
                return score
        raise PluginError("eviction", f"no plugin knows the policy {policy!r}")

    def open_pipeline(self, model: ModelRef) -> Pipeline | None:
        """Return the first pipeline that a plugin opens. What is wrong with the weights passes as it is.

        Who failed is remembered with the pipeline that another one opened: see `failed_to_open`.
        """
        hook = "zit_open_pipeline"
        failed: PluginError | None = None
        failures: set[str] = set()
        for name, implementation in self._implementations(hook):
            try:
                pipeline: Pipeline | None = self._calls.ask(
                    hook, implementation, {"model": model}, _checked_pipeline
                )
            except PluginError as error:
                if isinstance(error.__cause__, ZitError) and not isinstance(error.__cause__, PluginError):
                    raise error.__cause__ from None
                self._shrug(name, error, "the next plugin is asked")
                failed = error
                failures.add(name)
                continue
            if pipeline is not None:
                self._failed_to_open[_opened_as(model)] = frozenset(failures)
                return pipeline
        if failed is not None:
            raise failed
        return None

    def failed_to_open(self, model: ModelRef, fields: Mapping[str, FieldValue]) -> str | None:
        """Return a plugin that has a say in these fields, and failed when the weights were opened.

        What it says of the picture may then not be so.
        """
        failures = self._failed_to_open.get(_opened_as(model), frozenset())
        return next((name for name in sorted(failures) if f"{name}.fields_version" in fields), None)

    def make_room(self, bytes_needed: int, device: str) -> int:
        """Return how many bytes the plugins freed together; one that fails is logged and counts as 0."""
        hook = "zit_make_room"
        arguments = {"bytes_needed": bytes_needed, "device": device}
        freed = 0
        for name, implementation in self._implementations(hook):
            try:
                freed += self._calls.ask(hook, implementation, arguments, freed_bytes) or 0
            except PluginError as error:
                self._shrug(name, error, "loading all the same")
        return freed

    def request_finished(self, request: Request, result: Result, seconds: float) -> None:
        """Tell all plugins; one that fails is logged."""
        hook = "zit_request_finished"
        told = {"request": request, "result": result, "seconds": seconds}
        for name, implementation in self._implementations(hook):
            if self._calls.why_off(name, hook):
                continue
            try:
                self._calls.ask(hook, implementation, told)
            except PluginError as error:
                self._shrug(name, error, "the request was answered")

    def _too_slow(self, request: Request) -> Bypass | None:
        for hook in _IDENTITY_HOOKS:
            for name, _implementation in self._touching(hook, request):
                if why := self._calls.why_off(name, hook):
                    return Bypass(
                        "plugin_slow", f"plugin {name!r} is too slow ({why}); disable it, or restart"
                    )
        return None

    def _refuse_off(self, name: str, hook: str) -> None:
        """Raise if the plugin was found too slow while the request was rendered: its fields are unknown."""
        if why := self._calls.why_off(name, hook):
            raise PluginError(name, f"is too slow and is not asked any more ({why})")

    def _touching(self, hook: str, request: Request) -> Iterator[tuple[str, Any]]:
        for name, implementation in self._implementations(hook):
            if self.plugins.reports[name].touches_type(request.media_type):
                yield name, implementation

    def _implementations(self, hook: str) -> list[tuple[str, Any]]:
        caller = getattr(self.plugins.manager.hook, hook)
        # pluggy keeps the implementations in the reverse of the order in which it calls them.
        return [(each.plugin_name, each) for each in reversed(caller.get_hookimpls())]

    def _shrug(self, name: str, error: Exception, consequence: str) -> None:
        log.warning("%s; %s", error, consequence, exc_info=error)
        self._report("plugin_failed")


def _opened_as(model: ModelRef) -> tuple[object, ...]:
    """Return what tells one opened pipeline from another, whether or not its files are hashed by now."""
    parts = tuple((name, part.identity) for name, part in model.parts.items())
    return (model.identity, parts, model.dtype, model.attention, model.vae_tiling, model.offload)


def _checked_pipeline(answer: Any) -> Pipeline:
    check_pipeline(answer)
    pipeline: Pipeline = answer
    return pipeline
