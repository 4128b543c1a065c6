"""`python -m zit_ext.demo`: runs the main job in separate processes and prints one table.

`python install.py demo` sets up everything that this needs, and then calls it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from ..errors import ZitError
from ..models.download import ensure_downloaded
from ..settings import Settings
from .rows import Row, as_table, read_rows, write_rows
from .sheet import write_sheet
from .step import TOLD

PROMPT = "a lighthouse at dusk, long exposure, calm sea"
SEED = 42
ORDER = ("cold", "resident", "hit", "restart", "bypass", "audit")


class DemoError(Exception):
    """The demo cannot go on. Without a message: the step has said why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo. 0: everything was as promised; 1: something was not; 2: it could not run."""
    options = _parser().parse_args(arguments)
    out = Path(options.out).absolute()
    try:
        if options.json:
            _make_room_for(Path(options.json))
        rows = run(options.model, out, options.side)
    except (DemoError, ZitError) as error:
        if str(error):
            print(f"The demo stopped: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # install.py says what to do
    sheet = write_sheet(out / "sheet.png", rows, out)
    if options.json:
        write_rows(Path(options.json), rows)
    _report(rows, out, sheet)
    if options.model is None:
        print(f"To go on with the tiny model, set ZIT_MODEL={out / 'tiny-model'}")
    return 1 if any(row.problems for row in rows) else 0


def run(model: str | None, out: Path, side: int | None) -> list[Row]:
    """Return the rows of one whole run. Raises DemoError, ModelError."""
    _clear(out)
    if model is None:
        print("Building a tiny Z-Image model with fixed random weights ...", flush=True)
        model = str(out / "tiny-model")
        _process(["-m", "zit_ext.models.tiny", model])
        side = side or 256
    else:
        ensure_downloaded(model, Settings.load())
        side = side or 1024
    job = {
        "model": model,
        "side": side,
        "prompt": PROMPT,
        "seed": SEED,
        "out": str(out),
        "cache_dir": str(out / "cache"),
    }
    job_file = out / "job.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    rows: dict[str, Row] = {}
    for name, words in (
        ("first", "Process 1: cold, then resident, then the same request again ..."),
        ("restart", "Process 2: the same request after a restart ..."),
        ("audit", "Process 3: a random seed, then a new render with the cache off to compare ..."),
    ):
        print(words, flush=True)
        _process(["-m", "zit_ext.demo.step", name, str(job_file), repr(time.time())])
        rows.update({row.name: row for row in read_rows(out / f"{name}.rows.json")})
    # The process after the restart has nothing to compare with but what the first one wrote.
    cold, again = rows["cold"], rows["restart"]
    identical = again.digest == cold.digest and again.file_digest == cold.file_digest
    problems = again.problems if identical else (*again.problems, "it differs from the first render")
    rows["restart"] = replace(again, identical=identical, problems=problems)
    return [rows[name] for name in ORDER]


def _make_room_for(file: Path) -> None:
    """Make the folder of a file that is written at the end. Raises DemoError now, not after the renders."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"{file.parent} cannot be made ({error.strerror}); name another file") from error
    if file.is_dir():
        raise DemoError(f"{file} is a folder; name a file with --json")


def _clear(out: Path) -> None:
    """Begin afresh: a run that was killed half-way leaves nothing that could be taken for a result."""
    mark = out / "job.json"
    if out.exists() and not out.is_dir():
        raise DemoError(f"{out} is a file; name an empty folder with --out")
    if out.exists() and any(out.iterdir()) and not mark.exists() and not (out / ".zit-demo").exists():
        raise DemoError(f"{out} holds other files; name an empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / ".zit-demo").touch()
    shutil.rmtree(out / "cache", ignore_errors=True)
    for path in (*out.glob("*.png"), *out.glob("*.json")):
        path.unlink()


def _process(arguments: list[str]) -> None:
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, check=False)
    if done.returncode == TOLD:
        raise DemoError
    if done.returncode:
        raise DemoError(
            f"`python {' '.join(arguments)}` ended with code {done.returncode}; its message stands above"
        )


def _report(rows: list[Row], out: Path, sheet: Path) -> None:
    print(f"\n{as_table(rows)}\n")
    by_name = {row.name: row for row in rows}
    cold, again = by_name["cold"], by_name["restart"]
    print(
        f"A first picture took {cold.seconds:.2f} s (load and render); with resident weights "
        f"{by_name['resident'].seconds:.2f} s; again {by_name['hit'].seconds * 1000:.1f} ms."
    )
    if again.process_seconds is not None:
        print(
            f"After a restart it took {again.seconds * 1000:.1f} ms, "
            f"{again.process_seconds:.2f} s from the start of Python, without importing torch."
        )
    print(f"Pictures and sheet: {sheet}")
    problems = [f"{row.name}: {problem}" for row in rows for problem in row.problems]
    for problem in problems:
        print(f"PROBLEM  {problem}", file=sys.stderr)
    if not problems:
        print("Everything was as promised: every comparison is identical, byte for byte.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="install.py demo", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--model", help="a folder or a Hugging Face id, such as Tongyi-MAI/Z-Image-Turbo")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, too")
    parser.add_argument(
        "--out", default="demo-output", help="folder for pictures and cache (default: %(default)s)"
    )
    parser.add_argument(
        "--side", type=int, help="pixels per side (default: 256 for the tiny model, else 1024)"
    )
    return parser


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)  # a step that runs is then ended, too
    sys.exit(main())
