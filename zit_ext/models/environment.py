"""Finds again, without importing torch, what a renderer said of itself: its environment.

One file for each installation holds the records by model. Whatever is wrong with it - not there, torn,
edited, of another installation - means "not known": the next render publishes it again.

The flags in a record are what a program may turn while it runs. Where torch is imported they are read
live. Where it is not, the recorded ones stand for a fresh start, so they are kept only if they are that:
from a process whose torch we imported ourselves, as they were at its first render.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import json_texts
from ..errors import PluginError
from ..fingerprint import canonical_bytes
from ..records import FieldValue
from . import installation

log = logging.getLogger(__name__)

Record = Mapping[str, FieldValue]

_FORMAT = 1
_MAX_RECORDS = 200
_MAX_FILES = 50


class EnvironmentBook:
    """The environments of one program's renderers. Threads may share it.

    `label` tells programs apart that set up torch in their own way. `live_flags` returns the part
    "flags" of a record as it is now, or None while torch is not imported.
    """

    def __init__(
        self,
        folder: Path,
        label: str = "python",
        *,
        live_flags: Callable[[], Record | None] | None = None,
    ) -> None:
        self._folder = folder
        self._label = label
        self._live_flags = live_flags
        self._fresh_torch = "torch" not in sys.modules
        self._first_flags: FieldValue = None
        self._seen: tuple[object, dict[str, Any]] | None = None

    def installation(self) -> str:
        """Return the identity of what this program runs on: 64 hex digits."""
        return installation.installation(self._label)

    def find(self, name: str) -> Record | None:
        """Return the environment in which this model would be rendered now, if it is known."""
        record = self._read(self.installation()).get(name)
        if record is None:
            return None
        found: Record = record["record"]
        if not record["has_flags"]:
            return found
        live = self._flags_now()
        if live is not None:
            return {**found, "flags": live}
        return found if "flags" in found and "torch" not in sys.modules else None

    def publish(self, name: str, record: Record) -> None:
        """Remember what a renderer reported. A fault costs later hits, and is logged."""
        own = self.installation()
        try:
            kept = self._kept(record)
            known = self._read(own)
            if _agrees(known.get(name), kept):
                return
            digest = record_digest(kept["record"])
            if record_digest(json.loads(json.dumps(kept["record"]))) != digest:
                raise ValueError("the record does not survive as JSON")
            others = {model: each for model, each in known.items() if model != name}
            self._write(own, {**others, name: {**kept, "digest": digest}})
        except (OSError, ValueError, TypeError, PluginError) as error:
            log.warning("the environment of a renderer is not remembered: %s", error)

    def _kept(self, record: Record) -> dict[str, Any]:
        if "flags" not in record:
            return {"record": record, "has_flags": False}
        if self._first_flags is None:
            self._first_flags = record["flags"]
        fresh = self._fresh_torch and canonical_bytes(self._first_flags) == canonical_bytes(record["flags"])
        without = {name: value for name, value in record.items() if name != "flags"}
        return {"record": record if fresh else without, "has_flags": True}

    def _flags_now(self) -> Record | None:
        try:
            return self._live_flags() if self._live_flags is not None else None
        except Exception as error:  # of torch, or of whoever was asked: then nothing is known
            log.warning("torch's flags cannot be read: %s", error)
            return None

    def _read(self, own: str) -> dict[str, Any]:
        path = self._folder / f"{own}.json"
        try:
            seen = path.stat()
            state = (own, seen.st_mtime_ns, seen.st_size, seen.st_ino)
            if self._seen is None or self._seen[0] != state:
                self._seen = (state, _whole_records(path.read_bytes(), own))
            return self._seen[1]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("%s is not usable, and is written anew at the next render: %s", path, error)
            return {}

    def _write(self, own: str, records: Mapping[str, Any]) -> None:
        newest = dict(list(records.items())[-_MAX_RECORDS:])
        content = {"format": _FORMAT, "installation": own, "label": self._label, "records": newest}
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp: readable by this user only. A reader sees the whole file or the one before.
        handle, name = tempfile.mkstemp(prefix=".new-", suffix=".json", dir=self._folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(content, file, indent=1)
            os.replace(name, self._folder / f"{own}.json")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._forget_old()

    def _forget_old(self) -> None:
        """Remove the files of installations that were given up long ago."""
        with contextlib.suppress(OSError):
            files = sorted(self._folder.glob("*.json"), key=lambda each: each.stat().st_mtime, reverse=True)
            for old in files[_MAX_FILES:]:
                old.unlink(missing_ok=True)
            for torn in self._folder.glob(".new-*.json"):
                if time.time() - torn.stat().st_mtime > 3600:  # its writer was killed
                    torn.unlink(missing_ok=True)


def record_digest(record: Record) -> str:
    """Return the identity of an environment: SHA-256 of the record's canonical bytes."""
    return hashlib.sha256(canonical_bytes(record)).hexdigest()


def _whole_records(data: bytes, own: str) -> dict[str, Any]:
    """Return the records of this file that are as they were written. Raises ValueError for no such file."""
    content = json_texts.parsed(data)
    if not isinstance(content, dict) or (content.get("format"), content.get("installation")) != (
        _FORMAT,
        own,
    ):
        raise ValueError("it is of another format or installation")
    records = content.get("records")
    return {
        model: kept
        for model, kept in (records.items() if isinstance(records, dict) else ())
        if isinstance(kept, dict)
        and isinstance(kept.get("record"), dict)
        and isinstance(kept.get("has_flags"), bool)
        and _digest_or_none(kept["record"]) == kept.get("digest")
    }


def _digest_or_none(record: Record) -> str | None:
    try:
        return record_digest(record)
    except PluginError:
        return None


def _agrees(known: Mapping[str, Any] | None, kept: Mapping[str, Any]) -> bool:
    """Tell whether what is known says all that `kept` would. Flags of a fresh start are not given up."""
    if known is None or known["has_flags"] != kept["has_flags"]:
        return False
    one, other = dict(known["record"]), dict(kept["record"])
    if "flags" not in other:
        one.pop("flags", None)
    return canonical_bytes(one) == canonical_bytes(other)
