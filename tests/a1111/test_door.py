"""`/zit/*` as the webui gets it: mounted, behind its locks, and rendering in its queue."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from zit_ext.errors import GenerationStoppedError, ServerError
from zit_ext.records import Outcome, Request
from zit_ext.testing_engine import TrialEngine

from .test_routes import GENERATE, PATHS, Asking, basic, until

pytestmark = pytest.mark.pipeline  # for torch, which the fake webui needs

SECRETS = {
    "api_auth": "ann:secret",
    "gradio_auth": "ann:secret",
    "gradio_auth_path": "names.txt",
    "auth": "ann:secret",
    "auth_file": "names.txt",
}


class Queue:
    """The webui's queue: it lets one in at a time, and tells who has come to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.somebody_came = threading.Event()

    def __enter__(self) -> None:
        self.somebody_came.set()
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


class Route(SimpleNamespace):
    """As much of Starlette's as is needed to see where we mount."""

    def __init__(self, path: str, endpoint: Any, **named: Any) -> None:
        super().__init__(path=path, endpoint=endpoint, **named)


class Page:
    """A webui's server, its queue, and an engine whose weights are fake."""

    def __init__(self, trial: TrialEngine) -> None:
        self.trial = trial
        self.queue = Queue()
        self.options = SimpleNamespace(api_auth=None, gradio_auth=None, gradio_auth_path=None)
        self.app = SimpleNamespace(router=SimpleNamespace(routes=[Route("/", None)]), tokens={})
        self.engines_asked = 0

    def engine(self) -> Any:
        self.engines_asked += 1
        return self.trial.runtime

    def start(self, **options: Any) -> None:
        """Start the server, with these options of the command line."""
        vars(self.options).update(options)
        self.callbacks: list[Any] = []
        module("routes").register()
        (mount,) = self.callbacks
        mount(None, self.app)

    async def ask(self, method: str, path: str, **details: Any) -> Asking:
        return await Asking(method, path, **details).through(self.app.router.routes[0].endpoint)


def module(name: str) -> Any:
    return importlib.import_module(f"a1111_extension.{name}")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    from .fake_webui import FakeWebui

    for name in [each for each in sys.modules if each.partition(".")[0] == "a1111_extension"]:
        monkeypatch.delitem(sys.modules, name)
    with TrialEngine(tmp_path / "cache", installed=False) as trial:
        made = Page(trial)
        modules = FakeWebui(tmp_path / "webui").modules
        modules["modules.shared"].cmd_opts = made.options
        modules["modules.script_callbacks"].on_app_started = lambda told: made.callbacks.append(told)
        modules["modules"].call_queue = SimpleNamespace(queue_lock=made.queue)
        modules["starlette"] = ModuleType("starlette")
        modules["starlette.routing"] = ModuleType("starlette.routing")
        modules["starlette.routing"].Route = Route
        for name, each in modules.items():
            monkeypatch.setitem(sys.modules, name, each)
        monkeypatch.setattr(module("host"), "engine", made.engine)
        yield made
    for name in [each for each in sys.modules if each.partition(".")[0] == "a1111_extension"]:
        del sys.modules[name]  # they hold on to the fakes


# The door


async def test_everything_under_zit_is_ours_before_the_page_is_asked(page):
    page.start()
    ours, also_ours, theirs = page.app.router.routes

    assert (ours.path, also_ours.path, theirs.path) == ("/zit", "/zit/{rest:path}", "/")
    assert ours.endpoint is also_ours.endpoint
    assert (await page.ask("GET", "/zit/v1/health")).json["status"] == "ok"


async def test_no_engine_starts_before_somebody_asks_and_one_serves_all(page):
    page.start()
    assert page.engines_asked == 0

    asked = await asyncio.gather(*(page.ask("GET", "/zit/v1/stats") for _ in range(8)))
    assert [each.status for each in asked] == [200] * 8
    assert page.engines_asked == 1


@pytest.mark.parametrize("option", SECRETS)
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nobody_comes_in_without_what_the_webui_asks_for(page, option, method, path):
    page.start(**{option: SECRETS[option]})

    for headers in ({}, {"authorization": basic("ann:wrong")}, {"cookie": "access-token=guessed"}):
        assert (await page.ask(method, path, **headers)).status == 401
    assert page.trial.rendered == []


async def test_a_login_that_only_gradio_knows_of_locks_the_door_too(page):
    page.app.auth = {"ann": "secret"}
    page.start()
    page.app.tokens["drawn-by-gradio"] = "ann"  # somebody logs in later

    assert (await page.ask("GET", "/zit/v1/stats")).status == 401
    known = await page.ask("GET", "/zit/v1/stats", cookie="access-token=drawn-by-gradio")
    assert known.status == 200


async def test_the_password_of_the_api_opens_the_door(page):
    page.start(api_auth="ann:secret,bob:other")

    for name in ("ann:secret", "bob:other"):
        assert (await page.ask("GET", "/zit/v1/stats", authorization=basic(name))).status == 200


@pytest.mark.parametrize("told", ["secret", "ann", ",", "ann:secret,bob", "ann;secret"])
async def test_an_api_auth_that_cannot_be_read_locks_the_door_and_the_log_says_so(page, told, caplog):
    with caplog.at_level(logging.ERROR):
        page.start(api_auth=told)

    assert "NAME:PASSWORD" in caplog.text
    assert "secret" not in caplog.text
    for headers in ({}, *({"authorization": basic(each)} for each in ("secret", ":", "ann:", told))):
        if headers != {"authorization": basic("ann:secret,bob")}:
            assert (await page.ask("GET", "/zit/v1/stats", **headers)).status == 401
    ann = await page.ask("GET", "/zit/v1/stats", authorization=basic("ann:secret"))
    assert ann.status == (200 if told.startswith("ann:secret") else 401)


async def test_a_name_that_leads_here_from_elsewhere_is_refused_unless_the_webui_listens_to_others(page):
    page.start()
    assert (await page.ask("GET", "/zit/v1/stats", host="evil.example")).status == 403

    page.app.router.routes.clear()
    page.start(listen=True)
    assert (await page.ask("GET", "/zit/v1/stats", host="nas.example")).status == 200


# Rendering


class Client:
    """A watcher that may want to stop."""

    stops = False

    def step(self, done: int, total: int) -> None: ...

    def preview(self, png: bytes) -> None: ...

    def wants_stop(self) -> bool:
        return self.stops


REQUEST = Request(prompt="a fox", seed=7, width=64, height=64)


def answer(client: Client) -> asyncio.Task[Any]:
    return asyncio.ensure_future(module("rendering").answer(REQUEST, client))


async def test_a_miss_waits_for_the_webuis_queue(page):
    with page.queue:
        page.queue.somebody_came.clear()
        running = answer(Client())
        await until(page.queue.somebody_came.is_set)
        assert not running.done()
        assert not page.trial.pipeline.started.is_set()
    result = await asyncio.wait_for(running, 60)

    assert result.status.outcome is Outcome.MISS
    assert len(page.trial.rendered) == 1


async def test_a_hit_does_not_wait_for_the_queue(page):
    await answer(Client())
    with page.queue:
        page.queue.somebody_came.clear()
        result = await asyncio.wait_for(answer(Client()), 60)

        assert result.status.outcome is Outcome.HIT
        assert not page.queue.somebody_came.is_set()


async def test_who_stops_while_waiting_costs_no_render(page):
    client = Client()
    with page.queue:
        page.queue.somebody_came.clear()
        running = answer(client)
        await until(page.queue.somebody_came.is_set)
        client.stops = True
    with pytest.raises(GenerationStoppedError):
        await asyncio.wait_for(running, 60)

    assert not page.trial.pipeline.started.is_set()


async def test_who_leaves_while_waiting_costs_no_render(page):
    page.start()
    asking = Asking("POST", "/zit/v1/generate", body=GENERATE)
    with page.queue:
        page.queue.somebody_came.clear()
        running = asyncio.ensure_future(asking.through(page.app.router.routes[0].endpoint))
        await until(page.queue.somebody_came.is_set)
        asking.leaves.set()
        await running
    assert asking.status == 499

    # The queue is free again, and what waited in it has come to nothing.
    assert (await page.ask("POST", "/zit/v1/generate", body=GENERATE)).json["images"][0]["outcome"] == "miss"
    assert len(page.trial.rendered) == 1


async def test_who_stops_in_mid_render_frees_the_queue(page):
    client = Client()
    page.trial.pipeline.gate.clear()
    running = answer(client)
    await until(page.trial.pipeline.started.is_set)
    assert page.queue.lock.locked()
    client.stops = True
    with pytest.raises(GenerationStoppedError):
        await asyncio.wait_for(running, 60)

    assert not page.queue.lock.locked()
    assert page.trial.rendered == []


async def test_where_rendering_is_not_set_up_the_answer_says_what_to_do_and_the_checkpoint_stays(
    page, monkeypatch
):
    page.start()
    moved: list[str] = []
    monkeypatch.setattr(module("host_checkpoint"), "free", lambda: moved.append("away"))
    monkeypatch.setattr(module("readiness"), "this_python_fits", lambda: False)
    monkeypatch.setattr(module("readiness"), "is_set_up", lambda: False)

    asked = await page.ask("POST", "/zit/v1/generate", body=GENERATE)
    preload = await page.ask("POST", "/zit/v1/models/preload", body=b'{"model": "tiny"}')
    assert [each.status for each in (asked, preload)] == [503, 503]
    assert "press Set up rendering" in asked.json["error"]["message"]
    assert page.trial.rendered == []
    with pytest.raises(ServerError, match="Set up rendering"):
        module("rendering").render(object(), Client(), free_checkpoint=True)
    assert moved == []

    monkeypatch.setattr(module("readiness"), "is_set_up", lambda: True)
    again = await page.ask("POST", "/zit/v1/generate", body=GENERATE)
    assert again.status == 200
