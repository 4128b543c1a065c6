"""Puts the project into a host by a link or a copy, and takes exactly that away again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .hosts import NAMES, Host
from .places import Project
from .trouble import SetupError

NAME = "zit_ext"
MANIFEST = ".zit_ext-copy.json"
_LEFT_OUT = {"build", "dist", "tests", "benchmarks", "demo-output", "node_modules"}


def put(project: Project, host: Host, *, copy: bool) -> str:
    """Put the project into the host and return what was done; twice is as once. Raises SetupError."""
    target = host.folder / NAME
    if strangers := [path for path in duplicates(host) if path.name != NAME]:
        raise SetupError(
            f"zit_ext is in {NAMES[host.kind]} already, as {strangers[0]}.",
            "Two of them would be two caches in one process. Remove or rename that folder first "
            "(a name that ends in .disabled is ignored by ComfyUI).",
        )
    state = what_is_at(target, project)
    if state not in ("nothing", "our link", "our copy"):
        raise SetupError(f"{target} is {state}; it is left as it is.", _remedy(state, host))
    if state == "our link" and not copy:
        return f"{target} links here already."
    host.folder.mkdir(exist_ok=True)
    if copy:
        _copy(project, target, replace=state)
        return f"Copied to {target}. After an update of this project, run the same command again."
    if state == "our copy":
        take_copy_away(target)
        if target.exists():
            raise SetupError(f"{target} holds files that were added or changed.", "Move them away first.")
    make_link(project.root, target)
    return f"Linked {target} to {project.root}."


def take_away(project: Project, host: Host) -> list[str]:
    """Remove our link or copy from the host and return what was done. Raises SetupError for anything else."""
    target = host.folder / NAME
    state = what_is_at(target, project)
    if state == "nothing":
        return [f"Nothing of ours is in {host.folder}."]
    if state == "our link":
        remove_link(target)
        return [f"Removed the link {target}."]
    if state == "our copy":
        kept = take_copy_away(target)
        if kept:
            return [f"Removed the copy {target}, but not what was added or changed there:", *map(str, kept)]
        return [f"Removed the copy {target}."]
    raise SetupError(f"{target} is {state}; it is left as it is.", _remedy(state, host))


def what_is_at(target: Path, project: Project) -> str:
    """Return in words what is at that place: nothing, our link, our copy, or something that is not ours."""
    goal = link_goal(target)
    if goal is not None:
        if os.path.realpath(goal) == os.path.realpath(project.root):
            return "our link"
        if not goal.exists():
            return f"a link to {goal}, which is gone"
        return f"a link to another place ({goal})"
    if not os.path.lexists(target):
        return "nothing"
    if (target / MANIFEST).is_file():
        return "our copy"
    if os.path.realpath(target) == os.path.realpath(project.root):
        return "this project itself"
    return "a clone of zit_ext" if is_project(target) else "something else"


def duplicates(host: Host) -> list[Path]:
    """Return every folder of the host from which it would load zit_ext, ours too."""
    if not host.folder.is_dir():
        return []
    entries = sorted(host.folder.iterdir())
    return [path for path in entries if not path.name.endswith(".disabled") and is_project(path)]


def copy_is_current(project: Project, target: Path) -> bool:
    """Return whether a copy still is what a new one would be."""
    now = {path.relative_to(project.root).as_posix(): _digest(path) for path in _files(project.root)}
    return now == _manifest(target)


def is_project(folder: Path) -> bool:
    """Return whether a checkout or copy of zit_ext is there."""
    return (folder / "zit_ext" / "installing").is_dir() and (folder / "install.py").is_file()


def link_goal(path: Path) -> Path | None:
    """Return where a symbolic link or a junction leads, None if it is neither."""
    try:
        goal = os.readlink(path)  # noqa: PTH115 (junctions too, and nothing made of a Windows prefix)
    except OSError:
        return None
    return path.parent / goal.removeprefix("\\\\?\\")


def make_link(source: Path, target: Path) -> None:
    """Link a folder; on Windows by a junction, which needs no privileges. Raises SetupError."""
    try:
        if sys.platform == "win32":
            import _winapi

            _winapi.CreateJunction(str(source), str(target))
        else:
            target.symlink_to(source, target_is_directory=True)
    except OSError as error:
        raise SetupError(
            f"{target} cannot be made a link to {source}: {error}.",
            "The file system may not have links (a network drive): run the same command with --copy.",
        ) from error


def remove_link(path: Path) -> None:
    """Remove the link, and nothing of what it leads to."""
    try:
        path.unlink()
    except PermissionError:
        path.rmdir()  # a junction, to some versions of Windows


def take_copy_away(target: Path) -> list[Path]:
    """Remove the files that were copied, and the folders that are then empty; return what stays."""
    digests = _manifest(target)
    for name, digest in digests.items():
        path = target / name
        if path.is_file() and _digest(path) == digest:
            path.unlink()
    for folder, _, _ in os.walk(target, topdown=False):
        if Path(folder).name == "__pycache__":
            shutil.rmtree(folder, ignore_errors=True)
        elif Path(folder) != target and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    stays = sorted(path for path in target.rglob("*") if not path.is_dir() and path.name != MANIFEST)
    if not stays:
        # The manifest goes last: an interrupted removal is taken up again.
        (target / MANIFEST).unlink(missing_ok=True)
        target.rmdir()
    return stays


def _copy(project: Project, target: Path, *, replace: str) -> None:
    # Built beside the folder that the host scans, so that a killed copy is never loaded; then moved at once.
    new = Path(os.path.realpath(target.parent)).parent / ".zit_ext-new"
    shutil.rmtree(new, ignore_errors=True)
    digests: dict[str, str] = {}
    for path in _files(project.root):
        name = path.relative_to(project.root)
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, new / name)
        digests[name.as_posix()] = _digest(new / name)
    manifest = {"source": str(project.root), "files": digests}
    (new / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    if replace == "our link":
        remove_link(target)
    elif replace == "our copy" and (kept := take_copy_away(target)):
        shutil.rmtree(new, ignore_errors=True)
        raise SetupError(
            f"{target} holds files that were added or changed: {', '.join(map(str, kept[:3]))}.",
            "Move them away and run the same command again.",
        )
    os.replace(new, target)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        top = Path(folder) == root
        # What starts with a dot is the environment, the history, the tools' caches.
        folders[:] = sorted(
            name
            for name in folders
            if not (name.startswith(".") or name == "__pycache__" or name.endswith(".egg-info"))
            and not (top and name in _LEFT_OUT)
        )
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _manifest(target: Path) -> dict[str, str]:
    try:
        files = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["files"]
        # Only what lies within: a manifest that somebody changed must not reach out of the folder.
        return {str(name): str(digest) for name, digest in files.items() if _within(str(name))}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def _within(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _remedy(state: str, host: Host) -> str:
    if state == "a clone of zit_ext":
        return (
            f"{NAMES[host.kind]} loads that clone: update it with git, or remove it before linking another."
        )
    if state == "this project itself":
        return "There is nothing to link: this checkout lies in the host already."
    return "Move it away, or remove it if you know that it is not needed."
