"""One line of log for each request that was answered."""

from __future__ import annotations

import logging

from ..hookspecs import hookimpl
from ..records import Request, Result
from ..structured_logs import fields

log = logging.getLogger("zit_ext")


@hookimpl
def zit_request_finished(request: Request, result: Result, seconds: float) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    size = f" {request.width}x{request.height}" if request.media_type == "image/png" else ""
    status = result.status
    about = fields(
        outcome=status.outcome.value,
        tier=status.tier.value,
        reason=status.reason,
        key=status.key,
        seconds=round(seconds, 6),
        saved_seconds=result.saved_seconds,
    )
    log.info("%s in %.3f s, seed %d%s", status.header(), seconds, result.request.seed, size, extra=about)
