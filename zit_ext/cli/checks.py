"""What can be wrong with the machine, one function each: what was found, and how to mend it."""

from __future__ import annotations

import ctypes
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .. import human
from ..setting_values import GB
from ..settings import Settings


class State(str, Enum):
    """How bad it is: a warning may cost hits or speed, a failure costs the product."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was seen, and what to do about it."""

    name: str
    state: State
    words: str
    remedy: str = ""


NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"}
LEAST_SQLITE = (3, 24, 0)  # upserts


def python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", State.OK, f"{found} ({sys.executable})")


def sqlite() -> Check:
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        needed = ".".join(map(str, LEAST_SQLITE))
        return Check(
            "sqlite", State.FAIL, sqlite3.sqlite_version, f"the index needs SQLite {needed} or newer"
        )
    return Check("sqlite", State.OK, sqlite3.sqlite_version)


def cache_folder(settings: Settings) -> Check:
    folder = settings.cache_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            pass
    except OSError as error:
        words = f"{folder} cannot be written to ({error.strerror}); pictures are rendered, but not kept"
        return Check(
            "cache folder", State.FAIL, words, "mend its permissions, or set cache_dir to another folder"
        )
    return Check("cache folder", State.OK, str(folder))


def disk(settings: Settings) -> Check:
    folder = next(each for each in (settings.cache_dir, *settings.cache_dir.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    words = f"{human.size(free)} free; results may take {human.cap(settings.max_bytes)}"
    if free < GB // 2:
        return Check("disk", State.WARN, words, "make room: a full disk costs hits, never a picture")
    return Check("disk", State.OK, words)


def file_system(settings: Settings) -> Check:
    kind = file_system_of(settings.cache_dir)
    if kind is None:
        return Check("file system", State.OK, "its kind is not known here")
    if kind in NETWORK:
        remedy = "set cache_dir to a local folder: SQLite's locks are not safe over a network"
        return Check("file system", State.WARN, f"{kind}: a network file system", remedy)
    return Check("file system", State.OK, kind)


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the kind of file system that a folder is on, if this system tells."""
    if sys.platform == "win32":
        root = f"{folder.drive}\\"
        remote = str(folder).startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(root) == 4
        return "cifs" if remote else "local"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines]
    # Spaces in a mount point are written as \040.
    places = [(mount[1].replace("\\040", " "), mount[2]) for mount in found if len(mount) > 2]
    real = folder.resolve()
    holding = [(place, kind) for place, kind in places if real.is_relative_to(place)]
    return max(holding, key=lambda each: len(each[0]))[1] if holding else None
