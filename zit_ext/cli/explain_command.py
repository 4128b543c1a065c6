"""`zit-ext explain`: why two entries differ, and what would become of a request."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .. import human
from ..entry_json import entry_json, json_fields
from ..explaining import Differences, Explainer, Explanation, Verdict, differences
from .context import Context
from .entry_rows import SHORT, left, shown
from .keys import entry_by_key
from .parser import Commands, UsageError
from .request_options import add_request_options, request_from


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "explain",
        explain,
        help="why a request would hit, miss or be bypassed; or in which fields two entries differ",
        description="`explain KEY KEY` shows the fields in which two entries differ. `explain PROMPT`, with "
        "the options of generate, or with --request FILE.json, says what would become of that request, "
        "without loading anything.",
        usage="KEY KEY | PROMPT [--seed N] [options] | --request FILE.json",
    )
    parser.add_argument("what", nargs="*", metavar="KEY KEY | PROMPT", help="two keys, or one prompt")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_request_options(parser)


def explain(options: argparse.Namespace, context: Context) -> int:
    if len(options.what) > 2:
        raise UsageError("explain takes two keys, or one prompt in quotes")
    return _entries(options, context) if len(options.what) == 2 else _request(options, context)


def _entries(options: argparse.Namespace, context: Context) -> int:
    with context.store(context.settings()) as store:
        one, other = (entry_by_key(store, key) for key in options.what)
    found = differences(one.fields, other.fields, readable=not (one.redacted or other.redacted))
    if options.json:
        context.console.json({"keys": [one.entry.key, other.entry.key], "differences": _json(found)})
    elif found:
        _table(context, found, (one.entry.key[:SHORT], other.entry.key[:SHORT]))
    else:
        context.console.say("They have the same fields.")
    return 0


def _request(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    request = request_from(options, options.what[0] if options.what else None)
    now = time.time()
    runtime = context.open_runtime(settings)
    try:
        explanation = Explainer(runtime).explain(request, now)
    finally:
        runtime.close()
    if options.json:
        context.console.json(_row(explanation))
    else:
        _say(explanation, context, now)
    return 0


def _say(explanation: Explanation, context: Context, now: float) -> None:
    say = context.console.say
    say(f"{explanation.verdict.value}: {explanation.reason}")
    if explanation.key is not None:
        say(f"key: {explanation.key}")
    if explanation.verdict is Verdict.HIT and explanation.entry is not None:
        entry = explanation.entry
        say(
            f"entry: {human.size(entry.blob.size)}, made {human.ago(now - entry.created_at)}, "
            f"used {human.count(entry.uses, 'time')}, time left: {left(entry, now)}, "
            f"saves {human.duration(entry.cost)}"
        )
    if explanation.nearest is not None and explanation.differences is not None:
        say(f"nearest entry: {explanation.nearest.key[:SHORT]}, which differs in")
        _table(context, explanation.differences, ("this request", "that entry"))


def _table(context: Context, found: Differences, heads: tuple[str, str]) -> None:
    rows = [(name, shown(one), shown(other)) for name, (one, other) in found.items()]
    context.console.table(("field", *heads), rows)


def _row(explanation: Explanation) -> dict[str, Any]:
    entry, nearest = explanation.entry, explanation.nearest
    return {
        "verdict": explanation.verdict.value,
        "reason": explanation.reason,
        "key": explanation.key,
        "entry": None if entry is None else entry_json(entry),
        "nearest": None if nearest is None else entry_json(nearest),
        "differences": _json(explanation.differences or {}),
    }


def _json(found: Differences) -> dict[str, list[Any]]:
    return {name: [json_fields(one), json_fields(other)] for name, (one, other) in found.items()}
