"""Which HTTP request the present work is for, so that logs and lists of answers can name it.

A task that is started for another one inherits it; work in a thread of a pool does not.
"""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("zit_ext_request_id", default=None)
"""The id of the request that is answered here; None outside of one."""
