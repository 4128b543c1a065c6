"""`zit-ext verify`: is everything that is stored still what was written, and what would be rendered now?"""

from __future__ import annotations

import argparse
import functools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .. import human
from ..auditing import Audit, Finding, FindSource, audit, neutral
from ..errors import RequestError
from ..found_weights import source_of
from ..records import Entry
from ..results.selection import Selection
from ..results.store import ResultStore
from ..results.verifying import VerifyReport
from ..runtime import Runtime
from .context import Context
from .entry_rows import SHORT
from .parser import Commands
from .progress import bar
from .request_options import number

CANDIDATES = 100_000
"""Entries from which an audit draws: more would not make it fairer."""


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "verify",
        verify,
        help="check everything that is stored, and render some of it again to compare",
        description="Checks every entry, every blob by its digest and by decoding it, every file and every "
        "sum. With --audit N, renders N stored pictures again and compares the pixels. Exit code 1 if "
        "something is wrong.",
    )
    parser.add_argument(
        "--audit", type=number, metavar="N", help="render N entries, drawn at random, again, and compare"
    )
    parser.add_argument("--set-aside", action="store_true", help="put damaged entries into the quarantine")
    parser.add_argument("--json", action="store_true", help="for programs")


def verify(options: argparse.Namespace, context: Context) -> int:
    wanted = _wanted(options.audit)
    settings = context.settings()
    audits: list[Audit] = []
    if not wanted:
        with context.store(settings) as store:
            report = _verified(store, options, context)
    else:
        runtime = context.open_runtime(neutral(settings))
        try:
            report = _verified(runtime.store, options, context)
            find_source = functools.cache(lambda digest: source_of(digest, settings, context.environ))
            audits = _audited(runtime, wanted, find_source, context)
        finally:
            runtime.close(0.0)
    if options.json:
        context.console.json(_row(report, audits))
    else:
        _say(report, audits, context)
    differs = any(each.finding is Finding.DIFFERS for each in audits)
    return 1 if differs or not report.is_whole else 0


def _wanted(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or value < 1:
        raise RequestError("audit", value, "give a whole number from 1")
    return value


def _drawn(store: ResultStore, wanted: int) -> Sequence[Entry]:
    fresh = store.entries(Selection(stale=False, limit=CANDIDATES))
    return random.sample(fresh, min(wanted, len(fresh)))


def _audited(runtime: Runtime, wanted: int, find_source: FindSource, context: Context) -> list[Audit]:
    audits = []
    for done, entry in enumerate(_drawn(runtime.store, wanted)):
        _progress(context, f"audit {bar(done, wanted)} {done}/{wanted}")
        details = runtime.store.entry(entry.key)
        if details is not None:  # else it went meanwhile
            audits.append(audit(details, runtime, find_source))
    _progress(context, "")
    return audits


def _verified(store: ResultStore, options: argparse.Namespace, context: Context) -> VerifyReport:
    last = 0.0

    def told(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.1:  # a million entries need not be a million lines
            last = time.monotonic()
            _progress(context, f"verify {bar(done, total)} {done:,}/{total:,}")

    report = store.verify(set_aside=options.set_aside, progress=told)
    _progress(context, "")
    return report


def _progress(context: Context, text: str) -> None:
    if context.console.shows_progress():
        context.console.progress(text)


def _row(report: VerifyReport, audits: Sequence[Audit]) -> dict[str, Any]:
    return {
        **asdict(report),
        "is_whole": report.is_whole,
        "audits": [
            {"key": each.entry.key, "finding": each.finding.value, "detail": each.words} for each in audits
        ],
    }


def _say(report: VerifyReport, audits: Sequence[Audit], context: Context) -> None:
    say = context.console.say
    looked = f"{human.count(report.entries, 'entry', 'entries')}, {human.size(report.bytes)}"
    if report.is_whole:
        say(f"verified {looked}: everything is as it was written")
    else:
        say(f"verified {looked}: {human.count(len(report.problems), 'problem')}")
        rows = [(each.name, each.what[:SHORT], each.detail) for each in report.problems]
        context.console.table(("problem", "of", "detail"), rows)
        if report.set_aside:
            say(f"set aside: {human.count(report.set_aside, 'entry', 'entries')}")
    for line in _findings(audits):
        say(line)


def _findings(audits: Sequence[Audit]) -> Iterator[str]:
    if not audits:
        return  # nothing was to be audited, or nothing fresh is there
    counted = {finding: sum(each.finding is finding for each in audits) for finding in Finding}
    words = ", ".join(f"{number} {finding.value}" for finding, number in counted.items() if number)
    yield f"rendered again: {words}"
    for each in audits:
        if each.finding is not Finding.SAME:
            yield f"  {each.entry.key[:SHORT]}  {each.finding.value}: {each.words}"
