"""The dashboard at `/zit/`: a page, its modules, styles and words, as they lie in the folder `dashboard`.

Nothing is built and nothing comes from elsewhere. What the page shows, it asks of
`/zit/v1/`, as anybody could.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import HttpError
from .messages import Answer
from .preconditions import is_known_already
from .service import Call, Route

FOLDER = Path(__file__).with_name("dashboard")
PAGE = "index.html"
_VERSION = b"VERSION"
"""Stands in the page for the digest of all files."""

TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}

# Scripts, styles and words of ours only; pictures may also be what the page itself has made. A host shows the
# page in a frame, if it comes from the same origin.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "require-trusted-types-for 'script'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of the dashboard."""

    data: bytes
    digest: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Files:
    """All of them, by their paths in the folder, and a name for exactly this set."""

    version: str
    files: Mapping[str, File]


def routes() -> list[Route]:
    # No scope: whoever needs a token is asked for it by the page.
    return [
        Route("GET", "/zit", to_page),
        Route("GET", "/zit/", page),
        Route("GET", "/zit/assets/{path...}", asset),
    ]


def home() -> list[Route]:
    """Return the route of a server that is ours alone: its root leads to the page."""
    return [Route("GET", "/", to_page)]


async def to_page(call: Call) -> Answer:
    """Lead to the page, also where a proxy has put us below a path of its own."""
    place = "zit/" if call.asked.path in ("/", "/zit") else "./"
    return Answer(
        status=307,
        headers={"location": place, "cache-control": "no-cache", "content-type": TYPES[".html"]},
    )


async def page(call: Call) -> Answer:
    """Answer with the page. A browser asks for it anew each time, and for its files once."""
    return _answer(call, all_files().files[PAGE], "no-cache")


async def asset(call: Call) -> Answer:
    """Answer with one file; for ever, if it is named under the version of this set."""
    known = all_files()
    version, _, path = call.names["path"].partition("/")
    if version == known.version:
        kept = "public, max-age=31536000, immutable"
    else:
        # A page of an older version, or somebody who names the file alone.
        path = path if path in known.files else call.names["path"]
        kept = "no-cache"
    file = known.files.get(path)
    if file is None or path == PAGE:
        raise HttpError(404, "no_such_path", "there is nothing at this path")
    return _answer(call, file, kept)


@functools.cache
def all_files() -> Files:
    """Return the files of the dashboard, read once."""
    data = {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in TYPES
    }
    whole = hashlib.sha256()
    for name, each in data.items():
        whole.update(f"{name} {len(each)} ".encode() + each)
    version = whole.hexdigest()[:16]
    data[PAGE] = data[PAGE].replace(_VERSION, version.encode())
    return Files(
        version,
        {
            name: File(each, hashlib.sha256(each).hexdigest(), TYPES[Path(name).suffix])
            for name, each in data.items()
        },
    )


def _answer(call: Call, file: File, kept: str) -> Answer:
    headers = {**_HEADERS, "etag": f'"{file.digest}"', "cache-control": kept}
    if is_known_already(call.asked.headers, file.digest):
        return Answer(status=304, headers=headers)
    return Answer(headers={**headers, "content-type": file.media_type}, body=file.data)
