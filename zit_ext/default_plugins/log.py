"""One line of log for each request that was answered."""

from __future__ import annotations

import logging

from ..hookspecs import hookimpl
from ..records import Request, Result

log = logging.getLogger("zit_ext")


@hookimpl
def zit_request_finished(request: Request, result: Result, seconds: float) -> None:
    size = f" {request.width}x{request.height}" if request.media_type == "image/png" else ""
    log.info("%s in %.3f s, seed %d%s", result.status.header(), seconds, result.request.seed, size)
