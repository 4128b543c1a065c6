"""Which HTTP request the present work is for, so that logs and lists of answers can name it.

A task that is started for another one inherits it; work that goes to another thread is given it by
`bearing_id`. Not the whole context: it also says which hook runs here, and that is true of one thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

request_id: ContextVar[str | None] = ContextVar("zit_ext_request_id", default=None)
"""The id of the request that is answered here; None outside of one."""


def bearing_id(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function as another thread is to run it: under the id that is present here and now.

    >>> _ = request_id.set("a-7")
    >>> bearing_id(request_id.get)()
    'a-7'
    """
    id = request_id.get()
    return function if id is None else partial(_under, id, function)


def _under(id: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    before = request_id.set(id)
    try:
        return function(*args, **kwargs)
    finally:
        request_id.reset(before)
