"""Whether this Python can be given what Z-Image needs without moving what a host runs on.

pip is asked what it would do (`--dry-run`), and nothing is installed. It takes seconds and the network, so it
is done when a render was impossible, and never sooner; the answer is kept for as long as it is true.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..installing import pip
from ..installing.children import as_typed
from ..installing.versions import plain
from ..settings import Settings
from . import needs

STAY = ("torch", "transformers", "huggingface-hub", "tokenizers", "safetensors", "numpy", "pydantic")
"""What other nodes of a host were tried with: none of it may move."""

PATIENCE = 90.0
"""Seconds that pip may take."""

_RECORD = "adding.json"
_FORMAT = 1
_GIVEN_UP = 1000  # no program ends with that
_NO_IS_OLD_AFTER = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What pip said."""

    packages: tuple[str, ...] = ()
    """What would be installed, as pip reads it: `diffusers==0.36.0`. Empty if it cannot be."""
    moved: tuple[str, ...] = ()
    """Which packages that are there would change beside it: `filelock 3.1`."""
    why_not: str = ""
    certain: bool = True
    """Whether pip gave an answer. Where it could not be asked, it is asked again the next time."""

    def command(self) -> str:
        """Return what adds it to this Python, as a person would type it."""
        return as_typed([*_pip(), *self.packages])


Asking = Callable[[Sequence[str], Path, Callable[[], bool]], "tuple[int, str]"]


def addition(
    package: str, settings: Settings, stopped: Callable[[], bool] = lambda: False, ask: Asking | None = None
) -> Addition:
    """Return what would have to be added to this Python, beside `package`, so that it renders.

    `stopped` is asked now and then whether the user still wants to know; `ask` runs a command of pip.
    """
    have = needs.here((*needs.LEAST, *STAY))
    wanted = list(dict.fromkeys([*needs.missing(have), plain(package)]))
    stuck = [name for name in wanted if name in STAY and (name in have or name == "torch")]
    if stuck:
        shown = ", ".join(f"{name} {have.get(name, 'is not there')}" for name in stuck)
        return Addition(why_not=f"it would move {shown}")
    question = {"format": _FORMAT, "python": sys.executable, "have": have, "wanted": wanted}
    record = settings.data_dir / _RECORD
    known = _remembered(record, question)
    if known is None:
        known = _ask(wanted, have, stopped, ask or _run)
        if known.certain:
            _remember(record, question, known)
    return known


def _pip() -> list[str]:
    alone = ["-s"] if sys.flags.no_user_site else []
    return [sys.executable, *alone, "-m", "pip", "install"]


def _ask(
    wanted: Sequence[str], have: Mapping[str, str], stopped: Callable[[], bool], ask: Asking
) -> Addition:
    with tempfile.TemporaryDirectory(prefix="zit-adding-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        lines = [f"{name}=={have[name]}" for name in STAY if name in have]
        (folder / "stay.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        command = [
            *_pip(), "--dry-run", "--quiet", "--disable-pip-version-check", "--no-input",
            "--only-binary", ":all:", "--report", str(folder / "report.json"),
            "--constraint", str(folder / "stay.txt"),
            *(f"{name}>={needs.LEAST[name]}" if name in needs.LEAST else name for name in wanted),
        ]  # fmt: skip
        code, errors = ask(command, folder, stopped)
        if code == _GIVEN_UP:
            return Addition(why_not=f"pip did not answer within {PATIENCE:.0f} seconds", certain=False)
        if code:
            what, _ = pip.explained(errors, code)
            return Addition(why_not=what, certain="ResolutionImpossible" in errors)
        try:
            report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            found = [
                (plain(each["metadata"]["name"]), str(each["metadata"]["version"]))
                for each in report["install"]
            ]
        except (OSError, ValueError, LookupError, TypeError) as error:
            return Addition(why_not=f"pip's report cannot be read ({error})", certain=False)
    if not found:
        return Addition(why_not="pip finds it installed; start the program again", certain=False)
    before = needs.here(name for name, _ in found)
    moved = tuple(f"{name} {before[name]}" for name, version in found if before.get(name, version) != version)
    stuck = [each for each in moved if each.partition(" ")[0] in STAY]
    if stuck:
        return Addition(why_not=f"it would move {', '.join(stuck)}")
    return Addition(packages=tuple(f"{name}=={version}" for name, version in found), moved=moved)


def _run(command: Sequence[str], folder: Path, stopped: Callable[[], bool]) -> tuple[int, str]:
    """Run pip; return its exit code and what it complained of."""
    told = folder / "errors.txt"
    with told.open("wb") as errors:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )
        except OSError as error:
            return 1, str(error)
        end = time.monotonic() + PATIENCE
        try:
            while child.poll() is None:
                if stopped() or time.monotonic() > end:
                    return _GIVEN_UP, ""
                time.sleep(0.05)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    return child.returncode, told.read_text(encoding="utf-8", errors="replace")


def _remembered(record: Path, question: Mapping[str, object]) -> Addition | None:
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        if told["question"] != question:
            return None
        answer = told["answer"]
        known = Addition(
            packages=tuple(answer["packages"]), moved=tuple(answer["moved"]), why_not=answer["why_not"]
        )
        # A release of tomorrow may go with what is here.
        is_old = not known.packages and abs(time.time() - told["asked_at"]) > _NO_IS_OLD_AFTER
        return None if is_old else known
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _remember(record: Path, question: Mapping[str, object], answer: Addition) -> None:
    told = {"question": question, "answer": asdict(answer), "asked_at": time.time()}
    with contextlib.suppress(OSError):  # then it is asked again
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".adding-", dir=record.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(told, file)
        os.replace(name, record)
