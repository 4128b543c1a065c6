"""Export and import: a store or one of its namespaces in one file, every digest verified on both ways.

The archive is a ZIP without compression (pictures are compressed already): `zit-results.json` says
what it is, `entries.jsonl` holds a line for each entry, `blobs/` the bytes by their digests. Nothing
in it becomes a path here but digests, and nothing is believed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import sqlite3
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..codecs import CodecError
from ..errors import BlobCorruptError, PluginError, StoreError
from ..fingerprint import read_canonical
from ..json_texts import parsed
from ..records import Blob, Encoded, Fingerprint
from . import checksums
from .blobs import Blobs
from .decoding import check_decodable
from .details import every_row
from .dictionaries import Dictionaries
from .healing import canonical_of
from .layout import is_digest
from .rows import Row, is_fresh
from .waiting import Ready, Waiting

FORMAT = "zit_ext results"
VERSION = 1
_HEAD = "zit-results.json"
_ENTRIES = "entries.jsonl"
_MAX_LINE = 4_000_000
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,100}")


@dataclass(slots=True)
class ArchiveReport:
    """What became of the entries on their way."""

    entries: int = 0
    bytes: int = 0
    """Of blobs; a shared one counts once."""
    stale: int = 0
    already_there: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Keys of entries that were damaged or did not fit, and why."""


# Out


def export(
    db: sqlite3.Connection,
    blobs: Blobs,
    dictionaries: Dictionaries,
    path: Path,
    *,
    namespace: str | None,
    now: float,
) -> ArchiveReport:
    """Write fresh entries into an archive, which takes its name when it is whole. Raises OSError."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    report = ArchiveReport()
    written: set[str] = set()
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        # The lines of a million entries do not fit into memory; beside the archive there is room for them.
        with os.fdopen(descriptor, "wb") as file, tempfile.TemporaryFile(dir=path.parent) as lines:
            with zipfile.ZipFile(file, "w") as archive:
                for row in every_row(db, namespace):
                    if isinstance(row, str):
                        report.refused.append((row, "the row is damaged"))
                    elif not is_fresh(row.entry.expires_at, now):
                        report.stale += 1
                    else:
                        _export_row(db, blobs, dictionaries, row, archive, lines, written, report)
                lines.seek(0)
                with archive.open(_ENTRIES, "w", force_zip64=True) as told:
                    shutil.copyfileobj(lines, told)
                head = {"format": FORMAT, "version": VERSION, "entries": report.entries}
                archive.writestr(_HEAD, json.dumps(head))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    return report


def _export_row(
    db: sqlite3.Connection,
    blobs: Blobs,
    dictionaries: Dictionaries,
    row: Row,
    archive: zipfile.ZipFile,
    lines: IO[bytes],
    written: set[str],
    report: ArchiveReport,
) -> None:
    blob = row.entry.blob
    try:
        canonical = canonical_of(db, dictionaries, row)
        if blob.digest not in written:
            data = blobs.read_fully_checked(blob)
            archive.writestr(f"blobs/{blob.digest}", data)
            written.add(blob.digest)
            report.bytes += len(data)
    except (ValueError, BlobCorruptError) as error:
        report.refused.append((row.entry.key, str(error)))
        return
    lines.write(json.dumps(_told(row, canonical)).encode() + b"\n")
    report.entries += 1


def _told(row: Row, canonical: bytes) -> dict[str, Any]:
    entry = row.entry
    return {
        "key": entry.key,
        "blob": entry.blob.digest,
        "size": entry.blob.size,
        "media_type": entry.blob.media_type,
        "content_digest": entry.content_digest,
        "namespace": entry.namespace,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at,
        "ttl_seconds": row.ttl_seconds,
        "cost": entry.cost,
        "pinned": entry.pinned,
        "model": entry.model,
        "prompt": entry.prompt,
        "fields": base64.b64encode(canonical).decode(),
        "redacted": row.redacted,
    }


# In


class Imported(Waiting):
    """A result from an archive: with the age that it had there."""

    def __init__(self, told: dict[str, Any], fingerprint: Fingerprint, content: Encoded, now: float) -> None:
        expires_at = told["expires_at"]
        super().__init__(
            fingerprint,
            content,
            namespace=told["namespace"],
            cost=float(told["cost"]),
            # What is left of it; a sliding time starts again from here.
            ttl_seconds=0 if expires_at is None else float(expires_at) - now,
            model=told["model"],
            prompt=told["prompt"],
            pinned=bool(told["pinned"]),
            created_at=float(told["created_at"]),
            now=now,
        )
        self.redacted = bool(told["redacted"])
        self.ready = Ready(
            content,
            Blob(told["blob"], len(content.data), content.media_type),
            told["content_digest"],
            checksums.checksum(content.data),
        )


def import_from(
    path: Path,
    *,
    now: float,
    max_bytes: int,
    is_there: Callable[[str], bool],
    write: Callable[[Imported], None],
) -> ArchiveReport:
    """Give each entry of an archive that is fresh, whole and not there yet to `write`.

    Raises StoreError if this is no archive of ours, OSError if it cannot be read.
    """
    report = ArchiveReport()
    blobs: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            _check_head(archive)
            for line in _lines(archive):
                try:
                    told = _understood(parsed(line))
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    report.refused.append(("?", f"a line cannot be read: {error}"))
                    continue
                _import_one(archive, told, report, blobs, now, max_bytes, is_there, write)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise StoreError(f"{path.name} is no archive of results, or damaged: {error}") from error
    return report


def _import_one(
    archive: zipfile.ZipFile,
    told: dict[str, Any],
    report: ArchiveReport,
    blobs: set[str],
    now: float,
    max_bytes: int,
    is_there: Callable[[str], bool],
    write: Callable[[Imported], None],
) -> None:
    key = told["key"]
    if told["expires_at"] is not None and not told["pinned"] and told["expires_at"] <= now:
        report.stale += 1
    elif is_there(key):
        report.already_there += 1
    else:
        try:
            imported = _verified(archive, told, now, max_bytes)
            write(imported)
        except (CodecError, ValueError, StoreError, PluginError, zipfile.BadZipFile, EOFError) as error:
            report.refused.append((key, str(error)))
            return
        report.entries += 1
        report.bytes += 0 if told["blob"] in blobs else told["size"]
        blobs.add(told["blob"])


def _verified(archive: zipfile.ZipFile, told: dict[str, Any], now: float, max_bytes: int) -> Imported:
    canonical = base64.b64decode(told["fields"], validate=True)
    fields = read_canonical(canonical)
    if not told["redacted"] and hashlib.sha256(canonical).hexdigest() != told["key"]:
        raise ValueError("the key is not that of the fields")
    for name in ("namespace", "media_type") if isinstance(fields, dict) and not told["redacted"] else ():
        if fields.get(name, told[name]) != told[name]:
            raise ValueError(f"the {name} is not that of the fields")
    try:
        info = _plain(archive, f"blobs/{told['blob']}")
    except KeyError:
        raise ValueError("the blob is missing") from None
    if info.file_size != told["size"] or 0 < max_bytes < info.file_size:
        raise ValueError(f"the blob has {info.file_size:,} bytes")
    data = archive.read(info)
    if hashlib.sha256(data).hexdigest() != told["blob"]:
        raise ValueError("the bytes of the blob are not those of its digest")
    check_decodable(told["media_type"], data, told["content_digest"])
    fingerprint = Fingerprint(told["key"], fields if isinstance(fields, dict) else {}, canonical)
    return Imported(told, fingerprint, Encoded(told["media_type"], data), now)


def _plain(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return a member that is stored as it is: what is packed could be a thousand times as large as it looks.

    Raises KeyError if there is none, ValueError if it is packed or encrypted.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{name} is packed or encrypted; our archives are neither")
    return info


def _check_head(archive: zipfile.ZipFile) -> None:
    try:
        with archive.open(_plain(archive, _HEAD)) as file:
            head = parsed(file.read(_MAX_LINE))
        if head["format"] != FORMAT:
            raise ValueError("another format")
        version = head["version"]
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError("this is no archive of results") from error
    if version != VERSION:
        raise StoreError(f"the archive has version {version}; this version of zit_ext reads {VERSION}")


def _lines(archive: zipfile.ZipFile) -> Iterator[bytes]:
    try:
        file = archive.open(_plain(archive, _ENTRIES))
    except KeyError:
        raise StoreError("the archive has no entries") from None
    with file:
        while line := file.readline(_MAX_LINE):
            yield line


def _understood(told: Any) -> dict[str, Any]:
    """Return a line's mapping, its digests and types checked. Raises ValueError, TypeError, KeyError."""
    for name in ("key", "blob", "content_digest"):
        if not is_digest(told[name]):
            raise ValueError(f"{name} is no digest")
    for name in ("media_type", "namespace", "model", "fields"):
        if not isinstance(told[name], str):
            raise TypeError(f"{name} is no text")
    if not _MEDIA_TYPE.fullmatch(told["media_type"]):
        raise ValueError("its media type is none")
    numbers = [told["created_at"], told["cost"], 0.0 if told["expires_at"] is None else told["expires_at"]]
    if not all(math.isfinite(each) for each in numbers):
        raise ValueError("a time or a cost is no number")
    if not isinstance(told["prompt"], (str, type(None))) or type(told["size"]) is not int:
        raise TypeError("prompt or size is of another type")
    return dict(told, pinned=bool(told["pinned"]), redacted=bool(told["redacted"]))
