"""`zit-ext ls`, `show`, `rm`, `pin` and `unpin`: single entries of the store."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

from .. import human
from ..entry_json import entry_json, json_fields
from ..results.store import ResultStore
from .context import Context
from .destinations import Destination
from .entry_rows import SHORT, TABLE_HEAD, TABLE_RIGHT, flat, left, shown, table_row
from .keys import entry_by_key
from .parser import Commands
from .selection import add_selection_options, selection_from


def add_to(commands: Commands) -> None:
    parser = commands.add("ls", ls, help="list what is stored, newest first")
    add_selection_options(parser)
    parser.add_argument("--json", action="store_true", help="for programs: everything, with times in seconds")

    parser = commands.add("show", show, help="show one entry: every field of its request, and its picture")
    parser.add_argument("key", metavar="KEY", help="the beginning of a key is enough while it is unique")
    parser.add_argument("--out", metavar="FILE|FOLDER", help="write the picture; - is stdout")
    parser.add_argument("--overwrite", action="store_true", help="write over a file that is there")
    parser.add_argument("--json", action="store_true", help="for programs")

    for name, run, help in (
        ("rm", rm, "remove entries"),
        ("pin", pin, "keep entries whatever the caps and the clock say"),
        ("unpin", unpin, "let entries go again when their time comes"),
    ):
        parser = commands.add(name, run, help=help)
        parser.add_argument("keys", nargs="+", metavar="KEY", help="the beginning of a key is enough")
        parser.add_argument("--json", action="store_true", help="for programs")


def ls(options: argparse.Namespace, context: Context) -> int:
    now = time.time()
    selection = selection_from(options, now)
    with context.store(context.settings()) as store:
        entries = store.entries(selection)
    if options.json:
        context.console.json([entry_json(entry) for entry in entries])
    elif entries:
        context.console.table(TABLE_HEAD, [table_row(entry, now) for entry in entries], right=TABLE_RIGHT)
        if selection.limit and len(entries) == selection.limit:
            context.console.note(f"{selection.limit} are shown; --limit 0 shows all")
    else:
        context.console.note("nothing is stored that fits")
    return 0


def show(options: argparse.Namespace, context: Context) -> int:
    console, now = context.console, time.time()
    with context.store(context.settings()) as store:
        details = entry_by_key(store, options.key)
        entry = details.entry
        data = store.read_blob(entry.blob.digest) if options.out else b""
    if options.out:
        destination = Destination(options.out, media_type=entry.blob.media_type, overwrite=options.overwrite)
        if destination.to_stdout:
            console.bytes(data)
            return 0
        console.note(f"written: {destination.write(data, name=entry.key[:SHORT])}")
    if options.json:
        console.json({**entry_json(entry), "fields": json_fields(details.fields)})
        return 0
    facts = [
        ("key", entry.key),
        ("digest", entry.content_digest),
        ("size", f"{human.size(entry.blob.size)} ({entry.blob.media_type})"),
        ("namespace", entry.namespace),
        ("model", entry.model or "-"),
        ("prompt", "(not readable)" if entry.prompt is None else entry.prompt),
        ("created", human.ago(now - entry.created_at)),
        ("used", f"{human.count(entry.uses, 'time')}, last {human.ago(now - entry.used_at)}"),
        ("time left", left(entry, now)),
        ("pinned", "yes" if entry.pinned else "no"),
        ("saves", human.duration(entry.cost)),
    ]
    console.table(("entry", ""), facts)
    console.say()
    console.table(("field", "value"), [(name, shown(value)) for name, value in flat(details.fields)])
    return 0


def rm(options: argparse.Namespace, context: Context) -> int:
    return _changed("removed", ResultStore.remove, options, context)


def pin(options: argparse.Namespace, context: Context) -> int:
    return _changed("pinned", ResultStore.pin, options, context)


def unpin(options: argparse.Namespace, context: Context) -> int:
    return _changed("unpinned", ResultStore.unpin, options, context)


def _changed(
    done: str,
    change: Callable[[ResultStore, Sequence[str]], int],
    options: argparse.Namespace,
    context: Context,
) -> int:
    """Change all of the entries, or none if one of them is not there. 1 if not every one could be changed."""
    with context.store(context.settings()) as store:
        keys = list(dict.fromkeys(entry_by_key(store, key).entry.key for key in options.keys))
        count = change(store, keys)
    if options.json:
        context.console.json({done: count, "keys": keys})
    else:
        context.console.say(f"{done} {human.count(count, 'entry', 'entries')}")
    if count < len(keys):
        context.console.complain(f"{len(keys) - count} of {len(keys)} went meanwhile, or their time is over")
        return 1
    return 0
