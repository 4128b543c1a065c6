"""Makes the project's own environment, .venv, and mends what an interrupted run left behind."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import graphics, pip, quietly, stamp
from .children import ask, clean_environ, run
from .locking import only_one
from .places import Project, site_packages
from .torch_choice import TorchStep, choose
from .trouble import SetupError
from .versions import requirements

LEAST_TORCH = "2.5"  # pyproject.toml says the same; a test keeps the two in step
_ROOM_FOR_TORCH = 8_000_000_000
Say = Callable[[str], None]


def prepare(
    project: Project, extras: Collection[str], *, torch_index: str | None, say: Say, verbose: bool = False
) -> Path:
    """Return the interpreter of an environment with the project and these extras in it.

    Does nothing, and starts nothing, if that is so already. `verbose` shows all that pip says. Raises
    SetupError.
    """
    if stamp.why_not_ready(project, extras, torch_index) is None:
        return project.python
    with only_one(project.lock, say) as lock:
        reason = stamp.why_not_ready(project, extras, torch_index)  # another one may just have done it
        if reason is not None:
            say(f"Setting up {project.venv} ({reason}) ...")
            install = _Install(project, say, lock, verbose=verbose)
            _make(project, extras, torch_index=torch_index, say=say, lock=lock, install=install)
    return project.python


@dataclass(frozen=True, slots=True)
class _Install:
    """Runs pip for one environment."""

    project: Project
    say: Say
    lock: int
    verbose: bool

    @property
    def log(self) -> Path:
        return self.project.venv / "zit_ext-setup.log"

    def __call__(self, what: str, arguments: Sequence[str], *, cwd: Path | None = None) -> None:
        """Install; `what` tells a person what that is. Raises SetupError."""
        python = self.project.python
        if self.verbose:
            pip.install(python, arguments, cwd=cwd, hold=[self.lock])
        else:
            quietly.install(
                python, arguments, what=what, log=self.log, say=self.say, cwd=cwd, hold=[self.lock]
            )


def _make(
    project: Project,
    extras: Collection[str],
    *,
    torch_index: str | None,
    say: Say,
    lock: int,
    install: _Install,
) -> None:
    _make_usable(project, say, lock)
    install.log.unlink(missing_ok=True)
    before = stamp.read(project)
    wanted = sorted({*extras, *before.get("extras", ())})
    verified_torch = requirements(project.constraints)["torch"].version
    index = torch_index or before.get("torch_index")
    # From here until the end the environment counts as unfinished, whatever happens.
    stamp.write(project, {**before, "digest": None, "root": str(project.root)})
    drop_torn_packages(project.venv, say)
    _ensure_pip(project, lock)

    pins = project.venv / "zit_ext-constraints.txt"
    text = project.constraints.read_text(encoding="utf-8")
    pins.write_text(text, encoding="utf-8")
    if "zimage" in wanted:
        step = _torch_step(
            project, verified_torch, before.get("verified_torch"), torch_index, before.get("torch_index")
        )
        if step is TorchStep.KEEP:
            kept = stamp.installed(project.venv)["torch"]
            pins.write_text(text.replace(f"torch=={verified_torch}\n", f"torch=={kept}\n"), encoding="utf-8")
            say(f"torch {kept} is there already and stays.")
        else:
            say(graphics.torch_advice(graphics.nvidia_gpu(), index))
            say("This takes some minutes, most of them for torch.")
            _warn_of_little_room(project, say)
            _install_torch(install, verified_torch, index, again=step is TorchStep.REPLACE)
    # Editable, so that a `git pull` is enough to have the new code.
    target = f".[{','.join(wanted)}]" if wanted else "."
    beside = f" and what it needs for {', '.join(wanted)}" if wanted else ""
    install(f"zit_ext{beside}", ["-c", str(pins), "-e", target], cwd=project.root)
    stamp.write(
        project,
        {
            "digest": stamp.digest(project),
            "root": str(project.root),
            "extras": wanted,
            "packages": stamp.installed(project.venv),
            "torch_index": index,
            "verified_torch": verified_torch if "zimage" in wanted else None,
        },
    )
    say("The environment is ready.\n")


def _make_usable(project: Project, say: Say, lock: int) -> None:
    """Leave an environment whose Python starts and is of the version of this one."""
    venv = project.venv
    if venv.is_symlink() or (venv.exists() and not venv.is_dir()):
        raise SetupError(
            f"{venv} is in the way: it is not a folder of ours.", "Move it away and run this again."
        )
    if venv.is_dir():
        if not (venv / "pyvenv.cfg").exists() and any(path.is_file() for path in venv.rglob("*")):
            raise SetupError(
                f"{venv} holds files and is no Python environment.", "Move it away and run this again."
            )
        fault = _fault(project)
        if fault is None:
            return
        say(f"The environment is made anew: {fault}.")
        _remove(venv)
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise without_ensurepip(sys.version_info[:2])
    # Not sys.executable: that may be the very environment which was just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    code = run([base, "-m", "venv", str(venv)], environ=clean_environ(), hold=[lock])
    if code:
        raise SetupError(
            f"Python could not make an environment in {venv} (code {code}); its message stands above.",
            "Check that the folder is writable and the disk not full, and run the same command again.",
        )
    stamp.write(project, {"digest": None, "root": str(project.root)})


def without_ensurepip(version: tuple[int, int]) -> SetupError:
    """Return what to say where a distribution has split Python's own pip off."""
    shown = "{}.{}".format(*version)
    return SetupError(
        f"This Python ({sys.executable}) cannot make environments: it lacks venv or ensurepip.",
        f"On Debian and Ubuntu: sudo apt install python{shown}-venv. Then run the same command again.",
    )


def _fault(project: Project) -> str | None:
    said = ask(project.python, "import sys; print('%d.%d' % sys.version_info[:2])", seconds=60)
    own = "{}.{}".format(*sys.version_info[:2])
    if said is None:
        return "its Python does not start"
    if said != own:
        return f"it is for Python {said}, and this is {own}"
    moved_from = stamp.read(project).get("root")
    if moved_from not in (None, str(project.root)):
        return f"the project was moved here from {moved_from}"
    return None


def _remove(venv: Path) -> None:
    try:
        shutil.rmtree(venv)
    except OSError as error:
        raise SetupError(
            f"{venv} cannot be removed: {error.strerror} ({error.filename}).",
            "Close the programs that use it (on Windows also a terminal in which it is active), "
            "and run this with the Python outside it.",
        ) from error


def drop_torn_packages(venv: Path, say: Say) -> None:
    """Remove what a killed pip left: RECORD comes last, and it takes a package without one for whole."""
    folder = site_packages(venv)
    for path in () if folder is None else sorted(folder.iterdir()):
        torn = path.name.endswith(".dist-info") and not (path / "RECORD").exists()
        if torn or path.name.startswith("~"):
            say(f"Removing what an interrupted installation left: {path.name}")
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True) if path.is_file() else None


def _ensure_pip(project: Project, lock: int) -> None:
    if ask(project.python, "import pip._internal.cli.main") is not None:
        return
    if run([str(project.python), "-m", "ensurepip", "--upgrade"], environ=clean_environ(), hold=[lock]):
        raise without_ensurepip(sys.version_info[:2])


def _torch_step(
    project: Project, verified: str, verified_before: str | None, index: str | None, index_before: str | None
) -> TorchStep:
    installed = stamp.installed(project.venv).get("torch")
    return choose(
        installed,
        imports=installed is not None and ask(project.python, "import torch", seconds=300) is not None,
        verified=verified,
        least=LEAST_TORCH,
        verified_before=verified_before,
        index=index,
        index_before=index_before,
    )


def _install_torch(install: _Install, version: str, index: str | None, *, again: bool) -> None:
    wanted, what = f"torch=={version}", f"torch {version}"
    where = ["--index-url", index] if index else []
    if again:
        # Only torch itself: its dependencies are a matter for the next call, which keeps what fits.
        install(what, [*where, "--force-reinstall", "--no-deps", wanted])
    if index:
        install(f"{what} and what it needs" if again else what, [*where, wanted])


def _warn_of_little_room(project: Project, say: Say) -> None:
    free = shutil.disk_usage(project.root).free
    if sys.platform == "linux" and free < _ROOM_FOR_TORCH:
        say(f"Only {free / 1e9:.1f} GB are free here; a CUDA build of torch needs 8, a CPU build 1.5.")
