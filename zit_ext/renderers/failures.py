"""Foreign exceptions become ours here, at the room's edge, and let go of what their frames hold."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ..errors import GenerationStoppedError, ModelError, OutOfMemoryError, ZitError

P = ParamSpec("P")
T = TypeVar("T")


def outcome(
    doing: str, device: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T | ZitError:
    """Return what the function returns, or its error as one of ours. Raises nothing."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        # Whatever a plugin raises ends here: the thread and the loop behind it serve others too.
        ours = as_ours(error, doing, device)
    forget_frames(ours)
    return ours


def as_ours(error: BaseException, doing: str, device: str) -> ZitError:
    """Return the error as one of ours, with the foreign one as its cause.

    >>> as_ours(KeyError("scale"), "reading 'mine'", "cpu")
    ModelError("reading 'mine' failed: KeyError: 'scale'")
    """
    if is_out_of_memory(error):
        known = error if isinstance(error, OutOfMemoryError) else error.__cause__
        if isinstance(known, OutOfMemoryError):
            return known
        ours: ZitError = OutOfMemoryError(needed=0, free=0, device=device)
    elif isinstance(error, ZitError):
        return error
    elif isinstance(error, Exception):
        ours = ModelError(f"{doing} failed: {type(error).__name__}: {error}")
    else:
        # Ctrl-C, and the interrupts of hosts: not every one of them is an Exception.
        ours = GenerationStoppedError(f"{doing} was stopped by {type(error).__name__}")
    ours.__cause__ = error
    return ours


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out: Python's, ours or a library's error, or a plugin's because of one."""
    return any(
        isinstance(each, (MemoryError, OutOfMemoryError))
        or any(kind.__name__ == "OutOfMemoryError" for kind in type(each).__mro__)
        for each in (error, error.__cause__)
        if each is not None
    )


def forget_frames(error: BaseException) -> None:
    """Empty the finished frames of the error and of what led to it; the lines of its traceback stay.

    Whoever keeps an error keeps its frames, and theirs are full of weights.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
