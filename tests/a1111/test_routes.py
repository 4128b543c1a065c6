"""`/zit/*` as ASGI, behind the webui's own locks: whom it lets in, and what arrives."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from zit_ext.http.asgi_app import AsgiApp
from zit_ext.http.everything import zit_routes
from zit_ext.http.messages import Answer, Asked, FilePart
from zit_ext.http.service import Service
from zit_ext.testing_engine import TrialEngine

gates: Any = importlib.import_module("a1111_extension.gate")


class Asking:
    """One request on its way through an ASGI application."""

    def __init__(
        self, method: str, path: str, *, body: bytes = b"", pieces: int = 1, root: str = "", **headers: str
    ):
        path, _, query = path.partition("?")
        named = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): each for name, each in headers.items()}}
        self.scope = {
            "type": "http",
            "method": method,
            "path": root + path,
            "root_path": root,
            "query_string": query.encode(),
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        size = max(1, -(-len(body) // pieces))
        parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
        self._coming = [
            {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
            for index, part in enumerate(parts)
        ]
        self.leaves = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self._coming:
            return self._coming.pop(0)
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)

    async def through(self, app: AsgiApp) -> Asking:
        await asyncio.wait_for(app(self.scope, self.receive, self.send), 30)
        return self

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[TrialEngine]:
    with TrialEngine(tmp_path / "cache", installed=False) as made:
        yield made


def app_of(trial: TrialEngine, guard: Any = None, hosts: Any = ()) -> AsgiApp:
    gate = gates.WebuiGate(guard or gates.Guard(), namespace="default", hosts=hosts)
    return AsgiApp(Service(trial.runtime, routes=zit_routes(), gate=gate).answer)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


GENERATE = json.dumps({"prompt": "a fox", "seed": 7, "width": 64, "height": 64}).encode()


async def test_a_picture_is_rendered_once_and_its_bytes_come_by_their_address(trial):
    app = app_of(trial)
    first = await Asking("POST", "/zit/v1/generate", body=GENERATE, pieces=5).through(app)
    again = await Asking("POST", "/zit/v1/generate", body=GENERATE).through(app)
    (image,) = again.json["images"]
    picture = await Asking("GET", image["url"]).through(app)

    assert [each.json["images"][0]["outcome"] for each in (first, again)] == ["miss", "hit"]
    assert (picture.status, picture.body[:8]) == (200, b"\x89PNG\r\n\x1a\n")
    assert picture.headers["content-length"] == str(len(picture.body))
    assert picture.headers["content-encoding"] == "identity"  # or the webui would compress it once more
    head = await Asking("HEAD", image["url"]).through(app)
    assert (head.body, head.headers["content-length"]) == (b"", str(len(picture.body)))
    part = await Asking("GET", image["url"], range="bytes=1-3").through(app)
    assert (part.status, part.body) == (206, b"PNG")


async def test_steps_come_as_events_one_by_one(trial):
    asking = await Asking("POST", "/zit/v1/generate", body=GENERATE, accept="text/event-stream").through(
        app_of(trial)
    )

    names = [line[7:] for line in asking.body.decode().splitlines() if line.startswith("event: ")]
    assert (names[0], names[-1]) == ("begun", "result")
    assert len(asking.sent) > 3  # as they came, not as one


async def test_below_a_prefix_of_the_webui_the_same_paths_answer(trial):
    asking = await Asking("GET", "/zit/v1/health", root="/webui").through(app_of(trial))

    assert asking.json["status"] == "ok"


async def test_a_body_that_is_too_large_is_refused_by_what_it_says_or_by_what_comes(trial):
    app = app_of(trial)
    told = await Asking("POST", "/zit/v1/generate", content_length=str(10**9)).through(app)
    comes = await Asking("POST", "/zit/v1/generate", body=b" " * 33_000_000).through(app)

    assert (told.status, comes.status) == (413, 413)


async def test_a_client_that_leaves_stops_its_render(trial):
    trial.pipeline.gate.clear()
    asking = Asking("POST", "/zit/v1/generate", body=GENERATE)
    running = asyncio.ensure_future(asking.through(app_of(trial)))
    await until(lambda: trial.pipeline.started.is_set())
    asking.leaves.set()
    await running

    assert asking.status == 499
    trial.pipeline.gate.set()


async def until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


async def test_a_stream_is_closed_when_its_reader_has_left():
    closed = asyncio.Event()

    class Endless:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            await asyncio.sleep(0.01)
            return b"more"

        async def aclose(self) -> None:
            closed.set()

    async def answer(asked: Asked) -> Answer:
        return Answer(body=Endless())

    asking = Asking("GET", "/zit/v1/events")
    running = asyncio.ensure_future(asking.through(AsgiApp(answer)))
    await asyncio.sleep(0.1)
    asking.leaves.set()
    await running
    assert closed.is_set()


async def test_a_file_comes_in_pieces_and_one_that_is_gone_is_not_there(tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(bytes(range(256)) * 4000)

    async def answer(asked: Asked) -> Answer:
        return Answer(body=FilePart(path if asked.path == "/there" else tmp_path / "gone", 3, 600_000))

    there = await Asking("GET", "/there").through(AsgiApp(answer))
    assert there.body == (bytes(range(256)) * 4000)[3:600_003]
    assert len(there.sent) > 3
    assert (await Asking("GET", "/gone").through(AsgiApp(answer))).status == 404


# Who may ask

PATHS = [
    (route.method, route.path.replace("{", "").replace("...}", "").replace("}", "")) for route in zit_routes()
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_stranger_gets_nothing_where_the_webui_has_a_password(trial, method, path):
    for guard in (
        gates.Guard(passwords=(("ann", "secret"),)),
        gates.Guard(wants_login=True),
        gates.Guard(passwords=(("ann", "secret"),), wants_login=True),
    ):
        app = app_of(trial, guard)
        for headers in (
            {},
            {"authorization": basic("ann:wrong")},
            {"authorization": basic("ann:")},
            {"authorization": "Basic %%"},
            {"authorization": "Bearer secret"},
            {"cookie": "access-token=guessed"},
            {"cookie": "zit_token=secret"},
        ):
            asking = await Asking(method, path, **headers).through(app)
            assert asking.status == 401, headers
    assert trial.rendered == []


async def test_name_and_password_of_the_api_let_in_and_the_browser_is_told_to_ask_for_them(trial):
    app = app_of(trial, gates.Guard(passwords=(("ann", "se:cret"), ("bob", "other"))))

    stranger = await Asking("GET", "/zit/v1/stats").through(app)
    ann = await Asking("GET", "/zit/v1/session", authorization=basic("ann:se:cret")).through(app)
    assert stranger.headers["www-authenticate"].startswith("Basic")
    assert (ann.status, ann.json["name"], ann.json["token_needed"]) == (200, "ann", False)


@pytest.mark.parametrize(
    "cookie", ["access-token={}", "a=b; access-token-unsecure={}", "access-token-x1Yz={}"]
)
async def test_who_has_logged_in_to_the_page_is_let_in(trial, cookie):
    sessions = {"drawn-by-gradio": "ann"}
    app = app_of(trial, gates.Guard(wants_login=True, user_of_session=sessions.get))

    ann = await Asking("GET", "/zit/v1/session", cookie=cookie.format("drawn-by-gradio")).through(app)
    assert (ann.status, ann.json["name"]) == (200, "ann")
    other = await Asking("GET", "/zit/v1/session", cookie="other-cookie=drawn-by-gradio").through(app)
    assert other.status == 401


async def test_pages_of_other_sites_may_not_ask(trial):
    app = app_of(trial)
    for headers in (
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
    ):
        asking = await Asking("POST", "/zit/v1/entries/clear", **headers).through(app)
        assert (asking.status, asking.json["error"]["code"]) == (403, "origin")
    own = await Asking("GET", "/zit/v1/stats", origin="http://127.0.0.1:7860").through(app)
    assert own.status == 200


async def test_a_name_that_is_not_this_machines_is_refused_where_nobody_else_is_to_come(trial):
    rebound = {"host": "evil.example:7860"}

    alone = await Asking("GET", "/zit/v1/stats", **rebound).through(app_of(trial))
    shared = await Asking("GET", "/zit/v1/stats", **rebound).through(app_of(trial, hosts=None))
    assert (alone.status, shared.status) == (403, 200)
