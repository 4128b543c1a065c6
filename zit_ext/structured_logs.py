"""Log records as JSON, one a line, with the id of the HTTP request that they belong to.

Whoever logs may add fields of its own: `log.info("...", extra=fields(status=200))`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from .request_ids import request_id

_NAME = "zit_fields"


def fields(**values: Any) -> dict[str, Any]:
    """Return what `extra` of a logging call takes, so that these fields stand in the line."""
    return {_NAME: values}


class JsonLines(logging.Formatter):
    """One line of ASCII for each record: `time`, `level`, `logger`, `message`, and whatever else is told."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (id := request_id.get()) is not None:
            told["request_id"] = id
        added = getattr(record, _NAME, None)
        if isinstance(added, Mapping):
            told |= {name: value for name, value in added.items() if name not in told}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _time(seconds: float) -> str:
    """Return a moment as ISO 8601 has it.

    >>> _time(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
