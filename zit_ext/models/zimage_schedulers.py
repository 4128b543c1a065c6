"""The scheduler of one render, and how many steps to ask of which version of diffusers."""

from __future__ import annotations

import copy
import re
from typing import Any

from ..errors import RequestError
from ..records import SchedulerRef

ALLOWED = ("FlowMatchEulerDiscreteScheduler",)
"""What Z-Image's pipeline runs: others raise in mid-render, or draw from a shared random state."""


def for_render(base: Any, wanted: SchedulerRef) -> Any:
    """Return a scheduler for one render: the model's own config with the request's laid over it.

    Schedulers count their steps: each render has its own. Raises RequestError for one that Z-Image
    does not run, and for a config that it does not take.
    """
    if wanted.name not in ALLOWED:
        raise RequestError("scheduler", wanted.name, f"Z-Image runs {', '.join(ALLOWED)} only")
    if not wanted.config:
        return copy.deepcopy(base)
    config = dict(wanted.config)
    known = sorted(name for name in base.config if not name.startswith("_"))
    for name, value in config.items():
        if name not in known:
            raise RequestError(f"scheduler.config.{name}", value, f"it takes {', '.join(known)}")
    if config.get("stochastic_sampling"):
        raise RequestError(
            "scheduler.config.stochastic_sampling", True, "leave it out: it draws from a shared random state"
        )
    try:
        return type(base).from_config(base.config, **config)
    except (ImportError, TypeError, ValueError, ArithmeticError) as error:
        raise RequestError("scheduler.config", config, str(error)) from error


def steps_to_ask(effective: int, diffusers_version: str) -> int:
    """Return the number of steps to pass for that many forwards of the transformer that count.

    Up to diffusers 0.38 the last one had no effect (measured: 9 there are 8 of 0.39, to the bit).

    >>> steps_to_ask(8, "0.38.0"), steps_to_ask(8, "0.39.0"), steps_to_ask(8, "1.0.0.dev0")
    (9, 8, 8)
    """
    release = tuple(int(number) for number in re.findall(r"\d+", diffusers_version)[:2])
    return effective + 1 if release < (0, 39) else effective
