"""`zit-ext generate`: pictures for a prompt, from the cache where it can, as files."""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from .. import human, policy
from ..errors import RequestError
from ..models.download import ensure_downloaded, ensure_tokenizer
from ..records import CacheMode, Outcome, Request, Result
from ..runtime import Runtime
from ..settings import Settings
from .console import Console
from .context import Context
from .destinations import Destination
from .parser import Commands
from .progress import Progress
from .request_options import add_request_options, number, request_from

AHEAD = 8
"""Pictures of a batch that wait while one is rendered: more would only fill the engine's queue."""

KEEPING = 3600.0
"""Seconds for which weights may be hashed after the last picture. Only then can the next call hit."""


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "generate",
        generate,
        help="make pictures for a prompt, or find them in the cache",
        usage="PROMPT [--seed N] [--count N] [--out FILE|FOLDER] [options]",
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what is to be seen")
    parser.add_argument(
        "--count", type=number, default=1, metavar="N", help="pictures, with seeds s, s+1, ... (default: 1)"
    )
    parser.add_argument(
        "--out",
        metavar="FILE|FOLDER",
        help="where to write; - is stdout. A file that is there stays: the new one is called name-1.png",
    )
    parser.add_argument("--overwrite", action="store_true", help="write over files that are there")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each picture")
    add_request_options(parser)


def generate(options: argparse.Namespace, context: Context) -> int:
    settings = context.settings()
    requests = checked_batch(request_from(options, options.prompt), options.count, settings)
    destination = Destination(options.out, media_type=requests[0].media_type, overwrite=options.overwrite)
    if destination.to_stdout and (len(requests) > 1 or options.json):
        raise RequestError("out", "-", "stdout takes one picture and nothing else; name a folder")
    progress = Progress(context.console, len(requests))
    if requests[0].cache is not CacheMode.ONLY:
        ensure_downloaded(requests[0].model.source, settings)
        ensure_tokenizer(requests[0].model, settings)
    runtime = context.open_runtime(settings)
    try:
        for result in _answers(runtime, requests, progress):
            progress.clear()
            _deliver(result, destination, context)
    except BaseException:
        progress.stopped.set()
        _close(runtime, progress, 0.0, context.console)
        raise
    _close(runtime, progress, KEEPING, context.console)
    return 0


def checked_batch(request: Request, count: Any, settings: Settings) -> list[Request]:
    """Return the batch as the engine will see it. Raises RequestError, before anything is loaded."""
    asked = policy.with_defaults(request, settings)
    return [policy.at_the_door(each) for each in policy.batch_of(policy.at_the_door(asked), count)]


def row(result: Result, file: str | None) -> dict[str, Any]:
    """Return what a program wants to know of one answer."""
    status = result.status
    return {
        "file": file,
        "seed": result.request.seed,
        "outcome": status.outcome.value,
        "tier": status.tier.value,
        "key": status.key,
        "digest": result.digest,
        "media_type": result.media_type,
        "seconds": result.seconds,
        "saved_seconds": result.saved_seconds,
        "stored": status.stored,
        "collapsed": status.collapsed,
        "stale": status.stale,
        "ttl": status.ttl,
        "detail": status.detail,
        "warnings": list(result.warnings),
        "cache_status": status.header(),
    }


def sentence(result: Result) -> str:
    """Return what a person wants to know of one answer."""
    status, seconds = result.status, human.duration(result.seconds)
    if status.outcome is Outcome.HIT:
        return f"from {status.tier.value} in {seconds}, {human.duration(result.saved_seconds)} saved"
    words = f"rendered in {seconds}"
    if status.outcome is Outcome.BYPASS:
        return f"{words}, the cache was bypassed: {status.detail}"
    if status.stale:
        words += ", the stored one was stale"
    kept = "kept" if status.stored else "not kept"
    if status.detail is None:
        return f"{words}, {kept}"
    return f"{words}, {status.detail if kept in status.detail else f'{kept} ({status.detail})'}"


def _answers(runtime: Runtime, requests: Sequence[Request], progress: Progress) -> Iterator[Result]:
    """Yield the answers in order, each as soon as it is there: what is done stays done after Ctrl-C."""
    ahead = max(1, min(AHEAD, runtime.settings.queue_limit))
    waiting: deque[Future[Result]] = deque()
    try:
        for index, request in enumerate(requests):
            if len(waiting) == ahead:
                yield _wait(waiting.popleft())
            waiting.append(runtime.submit(request, progress.watch(index + 1)))
            progress.show(f"{progress.picture(index + 2 - len(waiting))}: looking it up, loading weights ...")
        while waiting:
            yield _wait(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _wait(future: Future[Result]) -> Result:
    try:
        while True:
            try:
                return future.result(timeout=0.1)  # awake now and then: Windows tells of Ctrl-C only so
            except FutureTimeoutError:
                if future.done():
                    raise
    except BaseException:
        future.cancel()
        raise


def _deliver(result: Result, destination: Destination, context: Context) -> None:
    """Write the picture, and say what it is."""
    console = context.console
    for warning in result.warnings:
        console.complain(f"warning: {warning}")
    words = f"{sentence(result)}; seed {result.request.seed}"
    if destination.to_stdout:
        console.bytes(result.data())
        console.note(words)
        return
    path = destination.write(result.data(), name=f"zit-{result.request.seed}")
    if context.options.json:
        console.json(row(result, str(path)), indent=None)
    else:
        key = f"; key {result.status.key[:12]}" if result.status.key else ""
        console.say(f"{path}  {words}{key}")


def _close(runtime: Runtime, progress: Progress, patience: float, console: Console) -> None:
    """Let the engine finish what it promised. Ctrl-C ends the program on the spot."""
    try:
        if patience:
            progress.show("keeping the results ...")
        runtime.close(patience)
        progress.clear()
    except KeyboardInterrupt:
        progress.clear()
        console.complain("interrupted at once; results that were not written yet are not kept")
        sys.stdout.flush()
        # Threads that hash or load would be waited for. The store recovers as from a crash.
        os._exit(130)
