"""Which bytes the files of weights hold: SHA-256 of content, remembered by what the file system says.

A digest is taken only of bytes that stood still. A file that changes while it is read has none. One
that was written less than two seconds ago is hashed, but not remembered: it could be written again
within the same tick of its time stamp.

Beside it stands what a name promises: the cache of Hugging Face names a large file by its SHA-256. That
is good for looking up, since what is kept under a digest is kept of bytes that were read. It proves
nothing: another tool's download may have been damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..errors import ModelError
from ..fingerprint import canonical_bytes
from .digest_memo import DigestMemo
from .weight_files import SeenFile, look_again

log = logging.getLogger(__name__)

SETTLE_SECONDS = 2.0
"""How long a file must have been left alone before its time stamp proves anything."""

_BLOCK = 4 * 1024 * 1024
_AHEAD = 4 * _BLOCK
_SHA256 = re.compile(r"[0-9a-f]{64}")

Stop = Callable[[], bool]


def never() -> bool:
    """Stop for nothing."""
    return False


class Digests:
    """Digests of files and folders. Any thread may ask. Times are Unix seconds.

    `monotonic` and `sleep` measure how long a file was seen to stand still.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._memo = DigestMemo(folder, clock=clock)
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._first_seen: dict[SeenFile, float] = {}

    def known(self, files: Sequence[SeenFile]) -> dict[SeenFile, str]:
        """Return what was read of these files before, by anybody, as far as it is remembered."""
        known = self._memo.find(files)
        blobs = {each: blob for each in files if each not in known and (blob := _blob_of(each)) is not None}
        if not blobs:
            return known
        read = self._memo.find(blobs.values())  # through another link to the same blob
        return known | {each: read[blob] for each, blob in blobs.items() if blob in read}

    def named(self, files: Iterable[SeenFile]) -> dict[SeenFile, str]:
        """Return what the names of these files promise, of those that nobody touched since they were met."""
        blobs = {each: blob for each in files if (blob := _blob_of(each)) is not None}
        return {
            each: Path(blob.path).name for each, blob in blobs.items() if self._memo.may_be_believed(blob)
        }

    def misnamed(self, files: Sequence[SeenFile]) -> list[str]:
        """Return the paths of blobs that were read, and do not hold what their names promise."""
        known = self.known(files)
        blobs = {each: blob for each in files if each in known and (blob := _blob_of(each)) is not None}
        return sorted({blob.path for each, blob in blobs.items() if Path(blob.path).name != known[each]})

    def hash(self, files: Sequence[SeenFile], wants_stop: Stop = never) -> dict[SeenFile, str] | None:
        """Return the digests of these files by reading them; None if one changed, or to stop was wanted.

        What was read by then is remembered all the same. Raises ModelError for a file that cannot be read.
        """
        settled = [each for each in files if self._is_settled(each)]
        digests = _hash_all(files, wants_stop)
        noted: dict[SeenFile, str] = {}
        for each in settled:
            if (digest := digests.get(each)) is None:
                continue
            noted[each] = digest
            if (blob := _blob_of(each)) is not None:
                noted[blob] = digest
                _compare_with_name(blob, digest)
        if noted:
            self._memo.note(noted)
        return digests if len(digests) == len(files) else None

    def wait_until_settled(self, files: Sequence[SeenFile], wants_stop: Stop = never) -> bool:
        """Wait until these files were left alone for a while. False if one changed, or to stop was wanted."""
        while unsettled := [each for each in files if not self._is_settled(each)]:
            if wants_stop():
                return False
            self._sleep(0.05)
            if any(look_again(each) != each for each in unsettled):
                return False
        return True

    def _is_settled(self, seen: SeenFile) -> bool:
        age = self._clock() - max(seen.mtime_ns, seen.ctime_ns) / 1e9
        if age >= SETTLE_SECONDS:
            return True
        # Clocks of file servers are wrong now and then: what stood still before our eyes has settled too.
        now = self._monotonic()
        if len(self._first_seen) > 10_000:
            self._first_seen.clear()
        return now - self._first_seen.setdefault(seen, now) >= SETTLE_SECONDS


def digest_of(files: Sequence[SeenFile], digests: Mapping[SeenFile, str]) -> str | None:
    """Return the digest of the whole: of a file its own, of a folder that of all names and digests.

    None if one is missing. The folder's place and its name change nothing.
    """
    if any(each not in digests for each in files):
        return None
    if len(files) == 1 and files[0].name == "":
        return digests[files[0]]
    content = [[os.fsencode(each.name), digests[each]] for each in files]
    return hashlib.sha256(canonical_bytes({"folder": content})).hexdigest()


def _blob_of(seen: SeenFile) -> SeenFile | None:
    """Return the blob that this file is a link to, as it was seen, if the blob's name promises its bytes."""
    blob = hub_blob(seen.path)
    return None if blob is None else replace(seen, path=os.fspath(blob))


def _compare_with_name(blob: SeenFile, digest: str) -> None:
    if Path(blob.path).name != digest:
        log.warning(
            "%s does not hold what its name promises: its download was damaged, or it was changed since. Its "
            "pictures are kept as its own. Delete the file and download the model again",
            blob.path,
        )


def hub_blob(path: str) -> Path | None:
    """Return the blob of the Hugging Face cache that carries its SHA-256 as name, if this is a link to one.

    Large files lie there as `models--ORG--NAME/blobs/SHA256`, and snapshots hold links to them. Small
    files are named by another hash, 40 digits long.
    """
    link = Path(path)
    if not link.is_symlink():
        return None
    blob = link.resolve()
    repository = blob.parent.parent
    in_hub = blob.parent.name == "blobs" and repository.name.startswith("models--")
    # The link must belong to the same repository: nobody else's links say anything about a name.
    if in_hub and repository / "snapshots" in link.parent.resolve().parents and _SHA256.fullmatch(blob.name):
        return blob
    return None


def _hash_all(files: Sequence[SeenFile], wants_stop: Stop) -> dict[SeenFile, str]:
    """Return the digests of those files that did not change, as far as nobody wanted to stop."""
    if len(files) < 2:
        return _taken(files, [hash_file(each, wants_stop) for each in files])
    # hashlib lets go of the interpreter lock: a few files at once keep a fast disk busy.
    stopped = False

    def wants_end() -> bool:
        return stopped or wants_stop()

    with ThreadPoolExecutor(max(1, min(4, (os.cpu_count() or 1) // 2)), "zit-hash-file") as pool:
        try:
            biggest_first = sorted(files, key=lambda each: -each.size)
            hashed = list(pool.map(lambda each: hash_file(each, wants_end), biggest_first))
        finally:
            stopped = True
    return _taken(biggest_first, hashed)


def _taken(files: Sequence[SeenFile], taken: Sequence[str | None]) -> dict[SeenFile, str]:
    return {each: digest for each, digest in zip(files, taken, strict=True) if digest is not None}


def hash_file(seen: SeenFile, wants_stop: Stop = never) -> str | None:
    """Return the SHA-256 of a file's bytes; None if it is not, or does not stay, as it was seen.

    Raises ModelError where it cannot be read.
    """
    digest = hashlib.sha256()
    block = bytearray(min(_BLOCK, max(1, seen.size)))
    view = memoryview(block)
    try:
        with open(seen.path, "rb", buffering=0) as file:  # noqa: PTH123 - paths stay as they were seen
            if not _is_still(seen, os.fstat(file.fileno())):
                return None
            left = seen.size
            while left > 0:
                if wants_stop():
                    return None
                _read_ahead(file.fileno(), seen.size - left)
                count = file.readinto(view)
                if not count:
                    return None
                digest.update(view[:count])
                left -= count
            if left < 0 or not _is_still(seen, os.fstat(file.fileno())):
                return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{seen.path} cannot be read: {error}") from error
    return digest.hexdigest() if look_again(seen) == seen else None


def _read_ahead(descriptor: int, at: int) -> None:
    """Have the system read on while what is there already is hashed: the slower of both decides then."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # advice, no more
            os.posix_fadvise(descriptor, at + _BLOCK, _AHEAD, os.POSIX_FADV_WILLNEED)


def _is_still(seen: SeenFile, found: os.stat_result) -> bool:
    # Not inode and device: Windows tells fstat and stat apart on some file systems.
    return found.st_size == seen.size and found.st_mtime_ns == seen.mtime_ns
