"""Makes a Python that can run the model server, and tries it: `zit-ext server provision`.

The webui's own packages are never touched. What is installed lies in a folder of the user's data, in
folders that are named by what they are made for: a new one takes the place of an old one only when a
picture was rendered with it, and a server that runs keeps the files that it runs on. Whoever stops, or is
killed, begins again where it was: what pip has finished stays, and what it has downloaded is in its cache.

Left out of the archive of ComfyUI's registry, which allows no installation at run time (`.comfyignore`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import file_locks
from ..errors import ServerError
from ..installing import pip
from ..installing.children import Listened, clean_environ
from ..installing.environment import drop_torn_packages
from ..installing.places import venv_python
from ..installing.trouble import SetupError
from ..installing.versions import requirements
from ..settings import Settings
from .home import ServerHome
from .needs import LEAST
from .probing import PINS, Plan, look_at, pinned, plans, requirement_names
from .provisioned import Provisioned, environ_of, folder_of, provisioned, remember
from .starting import ServerPython, boot, settings_argument
from .trial import PROOF

_ON_DISK = 5
"""How many times the size of a download has to be free: 1.4 GB became 4.9 (measured), beside each other."""

_TELLING = ("Collecting", "  Downloading", "  Using cached", "Installing", "Successfully")
"""How those of pip's lines begin that a person wants to see."""

_WHOLE = "zit_ext.json"
"""Written last into a folder: everything is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What goes on: for a line of a UI."""

    phase: str
    """waiting, plan, environment, packages, trial, failed, ready"""
    words: str
    done_bytes: int = 0
    total_bytes: int = 0
    """About, and at most; 0: nothing is downloaded in this phase."""
    made: Provisioned | None = None
    """In the phase `ready`, which is the last one."""


Steps = Generator[Progress, None, None]


def provision(
    settings: Settings,
    *,
    python: Path | None = None,
    torch_index: str | None = None,
    trial: str = "zit_ext.model_server.trial",
) -> Steps:
    """Have a Python for the model server, and say what goes on meanwhile. Raises ServerError.

    `python` is the one to begin with, by default this program's own; `torch_index` the address of a
    package index for torch; `trial` the module whose `main` proves that a Python renders. The first step
    says what will be downloaded. Whoever closes this, or reads no further, stops it. Servers that are
    started from then on run on what was made; the one that runs stays.
    """
    root = folder_of(settings)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = file_locks.try_lock(root / "lock")
        if lock is None:
            holder = file_locks.holder(root / "lock")
            yield Progress(phase="waiting", words=f"process {holder} provisions already; waiting for it")
            while (lock := file_locks.try_lock(root / "lock")) is None:
                yield Progress(phase="waiting", words="")
                time.sleep(0.2)
        try:
            yield from _Provisioning(settings, root, torch_index, trial, lock).run(python)
        finally:
            os.close(lock)
    except SetupError as error:
        raise ServerError(error.what, error.remedy) from error
    except OSError as error:
        raise ServerError(f"{root} cannot be used ({error.strerror})", "see the setting data_dir") from error


class _Provisioning:
    """One run, which has the lock."""

    def __init__(
        self, settings: Settings, root: Path, torch_index: str | None, trial: str, lock: int
    ) -> None:
        self._settings = settings
        self._root = root
        self._torch_index = torch_index
        self._trial = trial
        self._lock = lock
        self._log = root / "log.txt"

    def run(self, python: Path | None) -> Steps:
        self._log.unlink(missing_ok=True)
        self._tidy()
        ways = plans(self._settings, python)
        for way in ways:
            yield Progress(phase="plan", words=way.words(), total_bytes=way.download[1])
            free = shutil.disk_usage(self._root).free
            if free < _ON_DISK * way.download[1]:
                words = f"only {free / 1e9:.1f} GB are free in {self._root}: that may be too little"
                yield Progress(phase="plan", words=words, total_bytes=way.download[1])
            try:
                made = yield from self._make(way)
                made = yield from self._try(made)
            except SetupError as error:
                if way is ways[-1]:
                    raise
                yield Progress(phase="failed", words=f"{error.what} Trying another way.")
                continue
            remember(self._settings, made)
            self._tidy(keep=_in_use(self._settings))
            yield Progress(phase="ready", words=_ready_words(made), made=made)
            return

    def _make(self, plan: Plan) -> Generator[Progress, None, Provisioned]:
        """Return the Python that the plan says, with everything installed, and not yet tried."""
        executable = plan.base.executable
        if plan.kind == "venv":
            executable = yield from self._environment(plan)
        side = ""
        if plan.requirements:
            side = yield from self._side(plan, executable)
        return Provisioned(
            kind=plan.kind,
            executable=str(executable),
            side=side,
            digest=_digest(plan, self._torch_index, str(executable)),
        )

    def _environment(self, plan: Plan) -> Generator[Progress, None, Path]:
        """Return the Python of an environment with all that renders; what is there of it stays."""
        venv = self._root / f"venv-{_digest(plan, self._torch_index)[:12]}"
        python = venv_python(venv)
        if (venv / _WHOLE).exists() and look_at(python, environ=environ_of("venv", "")):
            return python
        (venv / _WHOLE).unlink(missing_ok=True)
        if look_at(python, environ=environ_of("venv", "")) is None:
            _remove(venv)
            yield Progress(phase="environment", words=f"making an environment in {venv}")
            yield from self._run([str(plan.base.executable), "-m", "venv", str(venv)], "environment")
        torn: list[str] = []
        drop_torn_packages(venv, torn.append)
        yield from (Progress(phase="environment", words=each) for each in torn)
        if not _has_pip(python):
            yield from self._run([str(python), "-m", "ensurepip", "--upgrade"], "environment")
        # torch by itself: the largest of all is then not asked for again, whatever happens to the rest.
        where = ["--index-url", self._torch_index] if self._torch_index else []
        total = plan.download[1]
        torch = requirements(PINS, plan.base.version)["torch"]
        arguments = [*where, f"torch=={torch.version}"]
        yield from self._pip(python, arguments, f"torch {torch.version}", total)
        yield from self._pip(python, pinned(plan.base), "the other packages", total)
        (venv / _WHOLE).write_text(json.dumps({"packages": pinned(plan.base)}), encoding="utf-8")
        return python

    def _side(self, plan: Plan, python: Path) -> Generator[Progress, None, str]:
        """Return a folder with what this Python lacks. It is filled beside its place, then moved."""
        side = self._root / f"side-{_digest(plan, self._torch_index, str(python))[:12]}"
        if (side / _WHOLE).exists():
            return str(side)
        yield Progress(
            phase="packages", words="asking which packages are missing", total_bytes=plan.download[1]
        )
        with self._folder("new-") as new:
            where = ["--extra-index-url", self._torch_index] if self._torch_index else []
            report = new / "report.json"
            kept = _constraints(plan, python, new / "constraints.txt")
            # pip looks at what is there, says what it would add, and adds nothing.
            dry = ["--dry-run", "--report", str(report), "-c", str(kept), *where, *plan.requirements]
            yield from self._pip(python, dry, "what is missing", plan.download[1])
            missing = _reported(json.loads(report.read_text(encoding="utf-8")))
            filled = new / "side"
            filled.mkdir()
            if missing:
                arguments = ["--target", str(filled), "--no-deps", *where, *missing]
                yield from self._pip(python, arguments, f"{len(missing)} packages", plan.download[1])
            (filled / _WHOLE).write_text(json.dumps({"packages": missing}), encoding="utf-8")
            _remove(side)
            os.replace(filled, side)
        return str(side)

    def _try(self, made: Provisioned) -> Generator[Progress, None, Provisioned]:
        """Return it with the proof that it renders. Raises SetupError."""
        yield Progress(phase="trial", words="rendering one small picture with it")
        python = ServerPython(Path(made.executable), made.environ)
        with self._folder("trial-") as folder:
            arguments = ["--settings", settings_argument(self._settings), "--folder", str(folder)]
            command = boot(python, arguments, self._trial)
            environ = {**os.environ, **made.environ, "PYTHONUNBUFFERED": "1"}
            child = Listened(command, environ=environ, cwd=folder, hold=[self._lock])
            proof: dict[str, Any] | None = None
            said: list[str] = []
            for line in self._lines(child):
                if line.startswith(PROOF):
                    proof = json.loads(line.removeprefix(PROOF))
                else:
                    said.append(line) if line else None
                    yield Progress(phase="trial", words=line)
        if child.code or proof is None:
            why = said[-1] if said else f"it ended with code {child.code}"
            raise SetupError(
                f"{made.executable} cannot render: {why}.", f"All that it said is in {self._log}."
            )
        return replace(made, made_at=time.time(), proof=proof)

    def _pip(self, python: Path, arguments: list[str], what: str, total: int) -> Steps:
        """Run pip, and count what it has downloaded. Raises SetupError with cause and remedy."""
        yield Progress(phase="packages", words=f"installing {what}", total_bytes=total)
        command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        command += ["--progress-bar", "off", *arguments]
        with self._folder("pip-") as temporary:
            # Beside where it goes: a system's own temporary folder is often too small for torch.
            places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
            environ = {**clean_environ(), **places, "PYTHONUNBUFFERED": "1"}
            child = Listened(command, environ=environ, cwd=temporary, hold=[self._lock])
            said: list[str] = []
            for line in self._lines(child):
                said.append(line)
                words = line.strip() if line.startswith(_TELLING) else ""
                done = pip.downloaded_bytes(temporary)
                yield Progress(phase="packages", words=words, done_bytes=done, total_bytes=total)
        if child.code:
            raise pip.failed(command, "\n".join(said), child.code)

    def _run(self, command: list[str], phase: str) -> Steps:
        child = Listened(command, environ=clean_environ(), cwd=self._root, hold=[self._lock])
        said: list[str] = []
        for line in self._lines(child):
            said.append(line) if line else None
            yield Progress(phase=phase, words=line)
        if child.code:
            why = said[-1] if said else f"it ended with code {child.code}"
            raise SetupError(f"{command[0]} -m {command[2]} failed: {why}.", f"See {self._log}.")

    def _lines(self, child: Listened) -> Iterator[str]:
        with contextlib.ExitStack() as left:
            left.callback(child.end)
            log = left.enter_context(self._log.open("a", encoding="utf-8"))
            for line in left.enter_context(contextlib.closing(child.lines())):
                if line:
                    log.write(f"{line}\n")
                    log.flush()
                yield line

    @contextlib.contextmanager
    def _folder(self, prefix: str) -> Iterator[Path]:
        """A folder of this run, beside what it makes: moves are then renames."""
        folder = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=self._root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _tidy(self, keep: set[str] | None = None) -> None:
        """Remove what killed runs left; with `keep`, all that was made and is not in it, too."""
        for path in self._root.iterdir():
            left_over = path.name.startswith((".pip-", ".new-", ".trial-"))
            made = path.name.startswith(("venv-", "side-"))
            if left_over or (made and keep is not None and str(path) not in keep):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _ready_words(made: Provisioned) -> str:
    proof = made.proof
    where = proof.get("gpu") or proof.get("device")
    words = f"ready: Python {proof.get('python')}, torch {proof.get('torch')}, on {where}"
    if broken := proof.get("broken_plugins"):
        words += "; these plugins do not work in it: " + ", ".join(
            f"{name} ({broken[name]})" for name in broken
        )
    return words


def _digest(plan: Plan, torch_index: str | None, python: str = "") -> str:
    """Return what tells one made thing from another: an environment without, a side folder with a Python."""
    told: dict[str, Any] = {
        "pins": PINS.read_text(encoding="utf-8"),
        "base": [str(plan.base.executable), *plan.base.version],
        "torch_index": torch_index,
    }
    if python:
        torch = plan.base.packages.get("torch") if plan.kind != "venv" else None
        told |= {"python": python, "torch": torch, "requirements": plan.requirements, "stamps": plan.stamps}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _constraints(plan: Plan, python: Path, path: Path) -> Path:
    """Write down what has to stay as it is in this Python: all that the plan does not ask for itself."""
    look = look_at(python, environ=environ_of(plan.kind, ""))
    asked = {*requirement_names(plan.requirements)}
    have = {} if look is None else {name: look.packages[name] for name in LEAST if name in look.packages}
    lines = [f"{name}=={version}" for name, version in have.items() if name not in asked]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _reported(report: dict[str, Any]) -> list[str]:
    """Return what pip would install, as pip reads it."""
    found = []
    for each in report.get("install", ()):
        name, version = each["metadata"]["name"], each["metadata"]["version"]
        direct = each.get("is_direct")
        found.append(f"{name} @ {each['download_info']['url']}" if direct else f"{name}=={version}")
    return found


def _has_pip(python: Path) -> bool:
    look = look_at(python, environ=environ_of("venv", ""))
    return look is not None and look.pip


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be removed: {error.strerror} ({error.filename}).",
            "End the programs that use it (`zit-ext server stop`).",
        ) from error


def _in_use(settings: Settings) -> set[str]:
    """Return the folders that the record names, and those that a server runs on."""
    used: set[str] = set()
    if (now := provisioned(settings)) is not None:
        used |= {now.side, str(Path(now.executable).parent.parent)}
    for place in (settings.data_dir / "server").glob("*"):
        state = ServerHome(place).state() if place.is_dir() else None
        if state is not None:
            used |= {str(Path(state.python).parent.parent), *map(str, state.facts.get("path", ()))}
    return used
