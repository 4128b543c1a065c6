"""The options that pick entries: by text, model, namespace, age and size."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import RequestError
from ..results.selection import ORDERS, Selection
from .durations import count_of_bytes, seconds
from .request_options import number

PAGE = 50


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `selection_from` reads."""
    parser.add_argument("prompt", nargs="?", metavar="TEXT", help="a part of the prompt, whatever its case")
    parser.add_argument("--model", metavar="TEXT", help="a part of the model's name")
    parser.add_argument("--namespace", metavar="NAME", help="only this namespace's entries")
    parser.add_argument("--older", metavar="TIME", help="made longer ago than this: 90 min, 24h, 7d")
    parser.add_argument("--younger", metavar="TIME", help="made more recently than this")
    parser.add_argument("--min-size", metavar="BYTES", help='at least this large: 500000, "1.5 MB"')
    parser.add_argument("--max-size", metavar="BYTES", help="at most this large")
    parser.add_argument("--pinned", action="store_const", const=True, help="only those that are pinned")
    parser.add_argument("--stale", action="store_const", const=True, help="only those whose time is over")
    parser.add_argument(
        "--order", default="newest", metavar="ORDER", help=f"{', '.join(ORDERS)} (default: newest)"
    )
    parser.add_argument(
        "--limit", type=number, default=PAGE, metavar="N", help=f"0 is without limit (default: {PAGE})"
    )
    parser.add_argument("--offset", type=number, default=0, metavar="N", help="leave out the first N")


def selection_from(options: argparse.Namespace, now: float) -> Selection:
    """Return the selection. Raises RequestError."""
    if options.order not in ORDERS:
        raise RequestError("order", options.order, f"give one of {', '.join(ORDERS)}")
    older, younger = options.older, options.younger
    least, most = options.min_size, options.max_size
    return Selection(
        prompt=options.prompt,
        model=options.model,
        namespace=options.namespace,
        created_before=None if older is None else now - seconds("older", older),
        created_after=None if younger is None else now - seconds("younger", younger),
        min_bytes=None if least is None else count_of_bytes("min_size", least),
        max_bytes=None if most is None else count_of_bytes("max_size", most),
        pinned=options.pinned,
        stale=options.stale,
        order=options.order,
        limit=_count("limit", options.limit),
        offset=_count("offset", options.offset),
    )


def _count(field: str, value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise RequestError(field, value, "give a whole number from 0")
    return value
