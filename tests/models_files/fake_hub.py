"""A small Hugging Face hub on the loopback: enough of its API for a download, and it misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0de"
LARGE = ".safetensors"


class FakeHub:
    """One repository. `cuts` says after how many bytes a file's next answers end too early."""

    def __init__(self, repo_id: str = "someone/tiny") -> None:
        self.repo_id = repo_id
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        self.wrong: dict[str, bytes] = {}
        self.status = 200
        self.error_code = ""
        self.ranges_heeded = True
        self.asked: Counter[str] = Counter()
        self.ranges: list[tuple[str, str]] = []
        self.tokens: list[tuple[str, str | None]] = []
        self.elsewhere: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def describe(self, name: str) -> dict[str, object]:
        data = self.files[name]
        own = {"rfilename": name, "size": len(data), "blobId": _git_hash(data)}
        if name.endswith(LARGE):
            own["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
        return own

    def tree(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for name, data in self.files.items():
            entry: dict[str, object] = {
                "type": "file",
                "path": name,
                "size": len(data),
                "oid": _git_hash(data),
            }
            if name.endswith(LARGE):
                entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
            found.append(entry)
        return found

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked[f"{self.command} {path}"] += 1
                hub.tokens.append((f"{self.command} {path}", self.headers.get("Authorization")))
                if hub.status != 200:
                    self.say(
                        hub.status, b"{}", {"X-Error-Code": hub.error_code, "X-Error-Message": "no"}, body
                    )
                elif path.startswith(f"/api/models/{hub.repo_id}/tree/"):
                    self.say(200, json.dumps(hub.tree()).encode(), {}, body)
                elif path.startswith(f"/api/models/{hub.repo_id}"):
                    info = {
                        "_id": "1",
                        "id": hub.repo_id,
                        "modelId": hub.repo_id,
                        "sha": COMMIT,
                        "siblings": [hub.describe(name) for name in hub.files],
                    }
                    self.say(200, json.dumps(info).encode(), {}, body)
                elif path.startswith("/elsewhere/"):
                    self.send_file(path.removeprefix("/elsewhere/"), body)
                else:
                    name = path.removeprefix(f"/{hub.repo_id}/resolve/{COMMIT}/")
                    if name not in hub.files:
                        self.say(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)
                    elif hub.elsewhere and name.endswith(LARGE):
                        place = f"{hub.elsewhere}/elsewhere/{name}"
                        self.say(302, b"", {"Location": place, **self.about(name)}, body)
                    else:
                        self.send_file(name, body)

            def about(self, name: str) -> dict[str, str]:
                data = hub.files[name]
                if name.endswith(LARGE):
                    return {
                        "X-Repo-Commit": COMMIT,
                        "X-Linked-Etag": f'"{_sha256(data)}"',
                        "X-Linked-Size": str(len(data)),
                    }
                return {"X-Repo-Commit": COMMIT, "ETag": f'"{_git_hash(data)}"'}

            def send_file(self, name: str, body: bool) -> None:
                data = hub.wrong.get(name, hub.files[name])
                about, status, start = self.about(name), 200, 0
                asked = self.headers.get("Range")
                if body and asked:
                    hub.ranges.append((name, asked))
                    if hub.ranges_heeded:
                        start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
                        about["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                cut = hub.cuts[name].pop(0) if body and hub.cuts.get(name) else None
                self.say(status, data[start:], about, body, cut)

            def say(
                self, status: int, data: bytes, headers: dict[str, str], body: bool, cut: int | None = None
            ) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if body:
                    self.wfile.write(data if cut is None else data[:cut])
                if cut is not None:
                    self.close_connection = True

        return Handler


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
