"""Which packs have put code of theirs in the place of ComfyUI's own. Pure, but for where modules come from.

Such a pack changes what ComfyUI's nodes compute, without a node of its own in the graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

_WHOLE = ("nodes", "node_helpers", "torch.nn.functional")
_BELOW = ("comfy.", "comfy_extras.")


def patching_packs(modules: Mapping[str, Any], places: Sequence[str]) -> tuple[str, ...]:
    """Return the packs in these folders whose functions or classes stand in ComfyUI's modules, sorted.

    What a pack does while one of its own nodes runs, and takes back after it, is not seen.
    """
    starts = tuple(os.path.join(each, "") for each in places)  # noqa: PTH118
    code = {path for name, module in modules.items() if _is_hosts(name) for path in _code_of(module, modules)}
    found = set()
    for path in code:
        for start in starts:
            if path.startswith(start):
                found.add(path[len(start) :].partition(os.sep)[0].removesuffix(".py"))
    return tuple(sorted(found))


def _is_hosts(name: str) -> bool:
    return name in _WHOLE or name.startswith(_BELOW)


def _code_of(module: Any, modules: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that a module's functions, classes and their methods come from."""
    for value in list(vars(module).values()):
        if isinstance(value, FunctionType):
            yield value.__code__.co_filename
        elif isinstance(value, type):
            home = getattr(modules.get(value.__module__), "__file__", None)
            if home is not None:
                yield home
            for each in list(vars(value).values()):
                function = getattr(each, "__func__", each)
                if isinstance(function, FunctionType):
                    yield function.__code__.co_filename
