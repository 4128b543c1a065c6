"""`zit-ext stats`, `prune`, `clear`, `export` and `import`: the store as a whole."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import human
from ..errors import RequestError
from ..history.database import FOLDER, HistoryError
from ..history.reading import NOTHING, Totals, totals_in
from ..results.archive import ArchiveReport
from ..results.counters import COUNTERS, DAMAGE
from ..results.store import Usage
from ..settings import Settings
from .context import Context
from .parser import Commands, UsageError

log = logging.getLogger(__name__)

NO_HIT_RATE = "not known: nothing was looked up since the history began"


def add_to(commands: Commands) -> None:
    parser = commands.add("stats", stats, help="say what is stored, and what it has saved")
    parser.add_argument("--namespace", metavar="NAME", help="one namespace only")
    parser.add_argument("--json", action="store_true", help="for programs")

    parser = commands.add("prune", prune, help="remove what is of no more use: stale, over the caps, strays")
    parser.add_argument("--json", action="store_true", help="for programs")

    parser = commands.add("clear", clear, help="remove every entry, pinned ones too")
    parser.add_argument("--namespace", metavar="NAME", help="only this namespace's")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="for programs")

    parser = commands.add("export", export, help="write what is stored into one file")
    parser.add_argument("file", metavar="FILE", help="a ZIP archive; one that is there stays")
    parser.add_argument("--namespace", metavar="NAME", help="only this namespace's")
    parser.add_argument("--overwrite", action="store_true", help="write over a file that is there")
    parser.add_argument("--json", action="store_true", help="for programs")

    parser = commands.add("import", import_, help="take in what `export` wrote, each picture verified")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="for programs")


def stats(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    with context.store(settings) as store:
        usage = store.usage(options.namespace)
        spaces = [] if options.namespace else [space for space in store.namespaces() if space.entries]
    told = _history(settings, options.namespace)
    if options.json:
        row: dict[str, Any] = {**asdict(usage), "hit_rate": told.hit_rate}
        row["namespaces"] = {space.name: {"entries": space.entries, "bytes": space.bytes} for space in spaces}
        row["history"] = {"since": told.since, **told.numbers}
        row["damage"] = _damage(told)
        context.console.json(row)
        return 0
    context.console.table(("store", ""), [*_facts(usage), *_counted(told)])
    if len(spaces) > 1:
        context.console.say()
        rows = [(space.name, f"{space.entries:,}", human.size(space.bytes)) for space in spaces]
        context.console.table(("namespace", "entries", "size"), rows, right=("entries", "size"))
    return 0


def _history(settings: Settings, namespace: str | None) -> Totals:
    try:
        return totals_in(settings.cache_dir / FOLDER, namespace)
    except HistoryError as error:
        log.warning("%s", error)
        return NOTHING


def _damage(told: Totals) -> dict[str, int]:
    """Return the kinds of damage that any program has found, and how often."""
    return {name: told.events[name] for name in DAMAGE if told.events.get(name)}


def prune(options: argparse.Namespace, context: Context) -> int:
    with context.store(context.settings()) as store:
        report = store.prune()
    if options.json:
        context.console.json(asdict(report))
        return 0
    context.console.say(
        f"freed {human.size(report.bytes)}: {human.count(report.stale, 'stale entry', 'stale entries')}, "
        f"{report.evicted:,} over the caps, {human.count(report.orphans, 'stray file')}, "
        f"{report.quarantined:,} from the quarantine"
    )
    return 0


def clear(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    with context.store(settings) as store:
        entries = store.usage(options.namespace).entries
        what = human.count(entries, "entry", "entries")
        where = f"namespace {options.namespace!r}" if options.namespace else str(settings.cache_dir)
        if entries and not options.yes and not context.console.confirmed(f"remove {what} of {where}?"):
            raise UsageError(f"nothing was removed; to remove {what} of {where}, say --yes")
        removed = store.clear(options.namespace)
    if options.json:
        context.console.json({"removed": removed})
    else:
        context.console.say(f"removed {human.count(removed, 'entry', 'entries')}")
    return 0


def export(options: argparse.Namespace, context: Context) -> int:
    path = Path(options.file)
    if path.is_dir():
        raise RequestError("file", options.file, "this is a folder; name a file in it")
    if path.exists() and not options.overwrite:
        raise RequestError("file", options.file, "it is there already; name another, or say --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with context.store(context.settings()) as store:
        report = store.export_to(path, options.namespace)
    return _report(f"exported to {path}", report, options, context)


def import_(options: argparse.Namespace, context: Context) -> int:
    if not Path(options.file).is_file():
        raise RequestError("file", options.file, "there is no such file")
    with context.store(context.settings()) as store:
        report = store.import_from(options.file)
    return _report(f"imported from {options.file}", report, options, context)


def _report(words: str, report: ArchiveReport, options: argparse.Namespace, context: Context) -> int:
    """Say what became of the entries. The exit code is 1 if some were refused."""
    if options.json:
        context.console.json(asdict(report))
    else:
        more = [f"{report.already_there:,} were there already"] if report.already_there else []
        more += [f"{report.stale:,} stale ones were left out"] if report.stale else []
        what = f"{human.count(report.entries, 'entry', 'entries')}, {human.size(report.bytes)}"
        context.console.say("; ".join([f"{words}: {what}", *more]))
    for key, why in report.refused:
        context.console.complain(f"entry {key[:12]} was refused: {why}")
    return 1 if report.refused else 0


def _facts(usage: Usage) -> list[tuple[str, str]]:
    most = f" of {usage.max_entries:,}" if usage.max_entries else ""
    room = f" of {human.size(usage.max_bytes)}" if usage.max_bytes else ""
    facts = [
        ("entries", f"{usage.entries:,}{most}"),
        ("size on disk", f"{human.size(usage.bytes)}{room}"),
        ("without sharing", human.size(usage.logical_bytes)),
        ("pinned", f"{usage.pinned:,} ({human.size(usage.pinned_bytes)})"),
        ("stale", f"{usage.stale:,}"),
    ]
    if usage.quarantined:
        words = f"{usage.quarantined:,} ({human.size(usage.quarantined_bytes)}), see `zit-ext verify`"
        facts.append(("in quarantine", words))
    return [
        *facts,
        ("hits", f"{usage.hits:,}"),
        ("rendering saved", human.duration(usage.saved_seconds)),
    ]


def _counted(told: Totals) -> list[tuple[str, str]]:
    """Return what only the history of all programs knows."""
    rate = told.hit_rate
    looked_up = told.numbers.get("hit", 0) + told.numbers.get("miss", 0)
    facts = [("hit rate", NO_HIT_RATE if rate is None else f"{rate:.0%} of {looked_up:,.0f} looked up")]
    facts += [
        ("damage found", f"{number:,} {name}: {COUNTERS[name]}") for name, number in _damage(told).items()
    ]
    if told.since is not None:
        facts.append(("counted for", human.age(time.time() - told.since)))
    return facts
