"""Does a folder lie on another machine's disk? SQLite's locks are not to be trusted there."""

from __future__ import annotations

import re
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")  # of spaces, tabs, line ends and backslashes
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {"9p", "afs", "afpfs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4"}
_NETWORK |= {"smb3", "smbfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"}


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the kind of network file system that the path lies on, or None if none is known of.

    Known on Linux, and on Windows for paths that name another machine.
    """
    if str(path).startswith("\\\\"):
        return "a Windows share"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        place = path.resolve()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        parts, told = before.split(), after.split()
        if len(parts) < 5 or not told:
            continue
        mounted = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), parts[4]))
        if (place == mounted or mounted in place.parents) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), told[0]
    return kind if kind in _NETWORK else None
