"""What a plugin must look like, and what its answers must look like. Pure: nothing is called or kept."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, NamedTuple

from . import hookspecs
from .errors import PluginError
from .fingerprint import canonical_bytes
from .nearest import nearest
from .records import FieldValue, Request

HOOKS: Mapping[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(spec).parameters)
    for name, spec in vars(hookspecs).items()
    if name.startswith("zit_")
}
"""Every hook, and the arguments that an implementation may name."""

RESERVED = frozenset({"extra", "environment", "schema", *(each.name for each in fields(Request))})
"""What no plugin may be called: its fields would look like the engine's own."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MEDIA_TYPE = re.compile(r"[a-z]+/(?:\*|[a-z0-9.+-]+)")
_MAX_DEPTH = 24


class WrongError(ValueError):
    """Something about a plugin or its answer is not as it must be."""


class Declared(NamedTuple):
    """What a plugin says of itself in attributes."""

    fields_version: int = 1
    touches: tuple[str, ...] = ()
    """Media types, such as image/png or audio/*; none means all."""

    def touches_type(self, media_type: str) -> bool:
        """Tell whether the plugin has to do with requests for this.

        >>> Declared(touches=("audio/*",)).touches_type("audio/wav"), Declared().touches_type("image/png")
        (True, True)
        """
        kind = media_type.partition("/")[0]
        return not self.touches or media_type in self.touches or f"{kind}/*" in self.touches


def declared_by(plugin: object) -> Declared:
    """Return what the plugin declares. Raises WrongError."""
    version = getattr(plugin, "fields_version", 1)
    if not isinstance(version, int) or isinstance(version, bool):
        raise WrongError(f"fields_version is {version!r}; give a whole number")
    touches = getattr(plugin, "touches", ())
    if not isinstance(touches, (tuple, list, set, frozenset)) or not all(
        isinstance(each, str) and _MEDIA_TYPE.fullmatch(each) for each in touches
    ):
        raise WrongError(f'touches is {touches!r}; give media types, such as ("image/png",) or ("audio/*",)')
    return Declared(version, tuple(sorted(touches)))


def check_name(name: str) -> None:
    """Raise WrongError unless a plugin may be called that."""
    if not _NAME.fullmatch(name):
        raise WrongError(f"a plugin cannot be called {name!r}; use letters, digits, - and _")
    if name in RESERVED:
        raise WrongError(f"a plugin cannot be called {name!r}: fields of that name belong to the engine")


def check_hooks(plugin: object) -> tuple[str, ...]:
    """Return the hooks that the plugin implements.

    Raises WrongError if one would never be called, or not as its author thinks.
    """
    found = set()
    for name in dir(plugin):
        try:
            function = getattr(plugin, name, None)
            options = getattr(function, "zit_ext_impl", None)
        except Exception:  # something that the plugin imported, such as a proxy, and no hook of it
            continue
        if not isinstance(options, dict):
            if name in HOOKS and callable(function):
                raise WrongError(f"{name} is not marked; write @hookimpl above it")
            continue
        hook = options.get("specname") or name
        if hook not in HOOKS:
            if not options.get("optionalhook"):
                near = nearest(hook, HOOKS, most=1, cutoff=0.0)[0]
                raise WrongError(f"there is no hook {hook!r}; did you mean {near!r}?")
            continue
        if options.get("wrapper") or options.get("hookwrapper"):
            raise WrongError(f"{hook} is a wrapper; return an answer instead")
        _check_function(hook, function)
        found.add(hook)
    return tuple(sorted(found))


def _check_function(hook: str, function: Any) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise WrongError(f"{hook} is a coroutine function; hooks are plain functions")
    if inspect.isgeneratorfunction(function):
        raise WrongError(f"{hook} is a generator; return an answer instead of yielding")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C: pluggy will see
        return
    known = HOOKS[hook]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise WrongError(
                f"{hook} takes *{parameter.name}; name the arguments that you want: {_list(known)}"
            )
        if parameter.default is not parameter.empty:
            # pluggy passes nothing to an argument with a default: it would be None for ever, silently.
            if parameter.name in known:
                raise WrongError(f"argument {parameter.name!r} of {hook} has a default; take it away")
        elif parameter.name not in known:
            raise WrongError(f"{hook} has no argument {parameter.name!r}; it has {_list(known)}")


def plain_fields(name: str, version: int, answer: object) -> dict[str, FieldValue]:
    """Return a plugin's answer as fields under its name: copied, so that it cannot change any more.

    >>> plain_fields("tenant", 1, {"user": "ann"})
    {'tenant.user': 'ann', 'tenant.fields_version': 1}
    >>> plain_fields("tenant", 1, {})
    {}

    Raises WrongError with the path to a value that has no place in a key.
    """
    if not isinstance(answer, Mapping):
        raise WrongError(f"gave a {type(answer).__name__}, not a mapping of names to values")
    found: dict[str, FieldValue] = {}
    for field_name, value in answer.items():
        if not isinstance(field_name, str) or not field_name:
            raise WrongError(f"gave a field whose name is {field_name!r}, not text")
        full = field_name if "." in field_name else f"{name}.{field_name}"
        if full in found:
            raise WrongError(f"gave field {full!r} twice, with its short name and its long one")
        if full == f"{name}.fields_version":
            raise WrongError("gave a field called 'fields_version'; that one is the attribute of your module")
        found[full] = _plain(value, full, 0)
    if found:
        found[f"{name}.fields_version"] = version
        try:
            canonical_bytes(found)
        except PluginError as error:
            raise WrongError(error.message) from None
    return found


def _plain(value: FieldValue, path: str, depth: int) -> FieldValue:
    if depth > _MAX_DEPTH:
        raise WrongError(f"field {path!r} is nested too deeply, or holds itself")
    if isinstance(value, Mapping):
        return {_inner_name(each, path): _plain(value[each], f"{path}.{each}", depth + 1) for each in value}
    if isinstance(value, (list, tuple)):
        return [_plain(each, f"{path}[{index}]", depth + 1) for index, each in enumerate(value)]
    if value is None or (isinstance(value, (str, int, float, bytes)) and not isinstance(value, Enum)):
        return value
    raise WrongError(
        f"field {path!r} is of type {type(value).__name__}; allowed are text, numbers, True, False, None, "
        "bytes, and lists and dicts of them"
    )


def _inner_name(name: object, path: str) -> str:
    if not isinstance(name, str):
        raise WrongError(f"field {path!r} has a name that is {name!r}, not text")
    return name


def reason_words(answer: object) -> str:
    """Return a plugin's reason to bypass, on one line. Raises WrongError."""
    if not isinstance(answer, str) or not answer.strip():
        raise WrongError(f"gave {_shown(answer)}; give a few words, or None")
    return " ".join(answer.split())


def score_number(answer: object) -> float:
    """Return a plugin's score. Raises WrongError."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        raise WrongError(f"gave {_shown(answer)}; give a number, or None")
    try:
        score = float(answer)
    except OverflowError:
        raise WrongError("gave a whole number that is too large") from None
    if not math.isfinite(score):
        raise WrongError(f"gave {score}; give a finite number, or None")
    return score


def freed_bytes(answer: object) -> int:
    """Return how much a plugin freed; None is nothing. Raises WrongError.

    >>> freed_bytes(None), freed_bytes(12)
    (0, 12)
    """
    if answer is None:
        return 0
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise WrongError(f"gave {_shown(answer)}; give a number of bytes, or None")
    return answer


def check_pipeline(answer: object) -> None:
    """Raise WrongError unless the answer looks like `zit_ext.pipeline.Pipeline`."""
    lacking = [each for each in ("parts", "move", "render", "close") if not hasattr(answer, each)]
    if lacking:
        raise WrongError(
            f"gave a {type(answer).__name__} that lacks {_list(lacking)}; give a pipeline, or None"
        )


def passes(error: BaseException) -> bool:
    """Tell whether this is nothing that a plugin did wrong: a person pressed Ctrl-C, or a host interrupts.

    sys.exit() and a cancellation that leave a hook would end our threads: those count as failures.
    """
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    return not isinstance(error, (Exception, SystemExit, asyncio.CancelledError, GeneratorExit))


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _list(names: Any) -> str:
    return ", ".join(names)
