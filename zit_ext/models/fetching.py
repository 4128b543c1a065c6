"""Fetches one large file over HTTP: goes on where it was cut off, and lets no wrong byte through.

What has arrived lies beside the target as `NAME.incomplete`, also after the program ended. The target
appears only when all bytes are there and their SHA-256 is the expected one. Knows no hub.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ..errors import GenerationStoppedError, ModelError

_BLOCK = 1024 * 1024
_TRIES = 6
"""In a row, without a single new byte."""
_TIMEOUT = 30.0  # seconds of silence

_LATER = frozenset((408, 416, 425, 429, 500, 502, 503, 504))

Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file on a server, and what it must be."""

    url: str
    size: int
    sha256: str
    headers: Mapping[str, str]
    """Sent to the server of the URL only, never to the ones that it sends us on to."""


class WrongBytesError(ModelError):
    """What the server sent is not the file that was promised."""


class CutOffError(ModelError):
    """The server could not be reached, or sent nothing more. What arrived stays for the next time."""


def fetch(
    wanted: Wanted,
    target: Path,
    *,
    arrived: Told = lambda _bytes: None,
    wants_stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Put the file at `target`, whole and verified. `arrived` is told how many bytes are there.

    Raises WrongBytesError, CutOffError, GenerationStoppedError, and ModelError for a disk that takes
    nothing more.
    """
    with _Part(target.with_name(f"{target.name}.incomplete"), wanted.size) as part:
        for first_time in (True, False):
            _receive_all(wanted, part, arrived, wants_stop, sleep)
            if part.sha256() == wanted.sha256:
                part.move_to(target)
                return
            part.start_over()
            if not first_time or not part.was_there:
                break
            # Bytes kept from an earlier time may be to blame: once more, from the beginning.
    part.remove()
    raise WrongBytesError(
        f"{wanted.url} sent other bytes than promised (SHA-256 {wanted.sha256[:12]}...); nothing was kept. "
        "Try again later, or from another network: a proxy may change what it passes on"
    )


class _Part:
    """What has arrived so far, on disk, and its hash."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._digest = hashlib.sha256()
        self.size = 0
        self.was_there = False

    def __enter__(self) -> _Part:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._path.open("r+b" if self._path.exists() else "w+b")
            while block := self._file.read(_BLOCK):
                self._digest.update(block)
                self.size += len(block)
        except OSError as error:
            raise self._refused(error) from error
        self.was_there = self.size > 0
        if self.size > self._most:
            self.start_over()
        return self

    def __exit__(self, *_error: object) -> None:
        # What a full disk does not take any more is fetched again the next time.
        with contextlib.suppress(OSError):
            self._file.close()

    def append(self, block: bytes) -> None:
        try:
            self._file.write(block)
        except OSError as error:
            raise self._refused(error) from error
        self._digest.update(block)
        self.size += len(block)

    def start_over(self) -> None:
        self._file.seek(0)
        self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.size = 0

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def move_to(self, target: Path) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()  # Windows moves no open file
            os.replace(self._path, target)
        except OSError as error:
            raise self._refused(error) from error

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> ModelError:
        return ModelError(
            f"{self._path} cannot be written: {error}; free some space, or let HF_HOME name another disk"
        )


def _receive_all(
    wanted: Wanted,
    part: _Part,
    arrived: Told,
    wants_stop: Callable[[], bool],
    sleep: Callable[[float], None],
) -> None:
    tries = 0
    arrived(part.size)
    while part.size < wanted.size:
        there, cut = part.size, "it ended early"
        try:
            _receive(wanted, part, arrived, wants_stop)
        except urllib.error.HTTPError as error:
            with error:
                cut = f"{error.code} {error.reason}"
            if error.code not in _LATER:
                raise CutOffError(f"{wanted.url} answered {cut}; try again later") from error
        except (OSError, http.client.HTTPException) as error:
            cut = str(error) or type(error).__name__
        if part.size >= wanted.size:
            return
        tries = 0 if part.size > there else tries + 1
        if tries >= _TRIES:
            raise CutOffError(
                f"{wanted.url} could not be read further ({cut}); {part.size:,} of {wanted.size:,} bytes are "
                "here and kept: run the same again to go on from there"
            )
        sleep(min(30.0, 0.5 * 2**tries))


def _receive(wanted: Wanted, part: _Part, arrived: Told, wants_stop: Callable[[], bool]) -> None:
    """Append what one answer of the server brings."""
    asked = urllib.request.Request(wanted.url, headers={**wanted.headers, "Accept-Encoding": "identity"})
    if part.size:
        asked.add_header("Range", f"bytes={part.size}-")
    with _opener().open(asked, timeout=_TIMEOUT) as answer:
        if part.size and not _goes_on(answer, part.size):
            part.start_over()
        while block := answer.read(min(_BLOCK, wanted.size - part.size)):
            if wants_stop():
                raise GenerationStoppedError("the download was stopped; what arrived is kept")
            part.append(block)
            arrived(part.size)


def _goes_on(answer: http.client.HTTPResponse, there: int) -> bool:
    """Tell whether the server heeded where to begin; if not, it sends everything again."""
    return answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {there}-")


class _OwnHeadersStay(urllib.request.HTTPRedirectHandler):
    """Follows to other servers without the headers that were meant for the first: they hold a token."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            for name in ("Authorization", "Cookie"):
                following.remove_header(name)
        return following


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    trusted = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError, ssl.SSLError):
        # Some Pythons come without the certificates of the public web; the hub's client brings them.
        import certifi

        trusted.load_verify_locations(certifi.where())
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusted), _OwnHeadersStay)
