"""What the model server would render in, known without asking it: hits need no server.

The server writes down what it runs on and, by that name, the environments of its models. A client looks at
the same things again. If any of them changed, nothing is known until the server has started anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..fingerprint import canonical_bytes
from . import installation, machine
from .environment import EnvironmentBook, Record

log = logging.getLogger(__name__)

Facts = Mapping[str, Any]


def facts_of_this_process(installation_id: str) -> dict[str, Any]:
    """Return what a server says of itself: the name of its installation, and what that stands for."""
    path = [each for each in sys.path if each]
    return {
        "installation": installation_id,
        "path": path,
        "python": sys.executable,
        "prefix": sys.prefix,
        "variables": installation.variables(os.environ),
        "digest": _digest(sys.executable, sys.prefix, path, os.environ),
    }


def still_holds(facts: Facts, environ: Mapping[str, str] | None = None) -> bool:
    """Say whether what these facts say is as it was.

    A server that runs (`runs`) has its own variables, whatever this program's are: hosts set some while
    they start. One that starts now would have this program's.
    """
    if environ is None:
        environ = facts.get("variables", {}) if facts.get("runs") else os.environ
    path, python, prefix = facts.get("path"), facts.get("python"), facts.get("prefix")
    if not isinstance(path, list) or not isinstance(python, str) or not isinstance(prefix, str):
        return False
    return bool(facts.get("digest") == _digest(python, prefix, path, environ))


class ServerEnvironments(EnvironmentBook):
    """The environments of the model server, as its clients know them.

    `facts` returns what the server that runs, or ran last, said of itself; `tell` passes on to it what it
    could not know when it rendered: the digest of weights that were hashed since.
    """

    def __init__(
        self, folder: Path, *, facts: Callable[[], Facts | None], tell: Callable[[str, Record], None]
    ) -> None:
        super().__init__(folder, label="server")
        self._facts = facts
        self._tell = tell

    def installation(self) -> str:
        """Return the identity of what the server runs on; empty if that is not known, or changed."""
        try:
            facts = self._facts()
            known = facts is not None and still_holds(facts)
        except Exception as error:  # whatever a damaged state, or another version's, makes of it
            log.warning("what the model server said of itself cannot be used: %r", error)
            return ""
        return str(facts.get("installation", "")) if facts is not None and known else ""

    def find(self, name: str) -> Record | None:
        own = self.installation()
        kept = self._read(own).get(name) if own else None
        if kept is None:
            return None
        found: Record = kept["record"]
        # Without flags it is of a server whose flags were turned while it ran: a new one would not have them.
        return found if "flags" in found or not kept["has_flags"] else None

    def publish(self, name: str, record: Record) -> None:
        """See that the server remembers this. It has done so already where it knew the digest."""
        known = self.find(name)
        if name and (known is None or canonical_bytes(known) != canonical_bytes(record)):
            self._tell(name, record)


def _digest(python: str, prefix: str, path: list[str], environ: Mapping[str, str]) -> str:
    stamp: list[int] = []
    with contextlib.suppress(OSError):
        seen = Path(python).stat()
        stamp = [seen.st_mtime_ns, seen.st_size]
    facts = {
        "zit_ext": __version__,
        "python": os.fsencode(python),
        "stamp": stamp,
        "machine": _machine(),
        "cpus": machine.usable_cpus(),
        "packages": _packages(prefix, tuple(path), tuple(map(_changed_at, path))),
        "variables": {name: os.fsencode(each) for name, each in installation.variables(environ).items()},
    }
    return hashlib.sha256(canonical_bytes(facts)).hexdigest()


@functools.cache
def _machine() -> str:
    return hashlib.sha256(repr((machine.cpu(), list(machine.devices()))).encode()).hexdigest()


@functools.lru_cache(maxsize=4)
def _packages(prefix: str, path: tuple[str, ...], changed_at: tuple[int, ...]) -> str:
    # A distribution that comes or goes changes its folder; only then hundreds of files are looked at again.
    return hashlib.sha256(repr(list(installation.packages(path, prefix))).encode()).hexdigest()


def _changed_at(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0  # a zip file that is not there, a folder that never was
