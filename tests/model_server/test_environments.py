"""What keys are made of, known without asking the server: and forgotten when anything changed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zit_ext.model_server.starting import stop
from zit_ext.models.environment import EnvironmentBook
from zit_ext.models.server_environments import ServerEnvironments, facts_of_this_process, still_holds
from zit_ext.plugins import find_plugins
from zit_ext.questions import environment_name
from zit_ext.records import ModelRef, Outcome
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.runtime import Runtime
from zit_ext.testing import FAKE_ENVIRONMENT, FakeFiles, QuietWatcher, make_request

from .conftest import World

RECORD = {"device": "fake", "versions": {"fake": "2"}}


class Told:
    def __init__(self) -> None:
        self.digests: list[str] = []

    def __call__(self, digest: str, record: Mapping[str, Any]) -> None:
        self.digests.append(digest)


def as_seen_by_a_client(folder: Path, facts: Mapping[str, Any] | None) -> tuple[ServerEnvironments, Told]:
    told = Told()
    return ServerEnvironments(folder, facts=lambda: facts, tell=told), told


@pytest.fixture
def book(tmp_path: Path) -> EnvironmentBook:
    made = EnvironmentBook(tmp_path, label="server")
    made.publish("m", RECORD)
    return made


def test_a_client_knows_what_the_server_wrote_down(tmp_path: Path, book: EnvironmentBook) -> None:
    known, told = as_seen_by_a_client(tmp_path, facts_of_this_process(book.installation()))
    assert known.find("m") == RECORD
    assert known.find("another model") is None
    known.publish("m", RECORD)
    assert told.digests == []
    known.publish("another model", RECORD)
    assert told.digests == ["another model"]


def test_without_a_server_ever_nothing_is_known(tmp_path: Path, book: EnvironmentBook) -> None:
    assert as_seen_by_a_client(tmp_path, None)[0].find("m") is None
    assert as_seen_by_a_client(tmp_path, {})[0].find("m") is None
    assert (
        as_seen_by_a_client(tmp_path, {"installation": book.installation(), "path": 7})[0].find("m") is None
    )


def test_a_changed_variable_makes_it_unknown(
    tmp_path: Path, book: EnvironmentBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of_this_process(book.installation())
    known, _ = as_seen_by_a_client(tmp_path, facts)
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert known.find("m") is None
    monkeypatch.undo()
    assert known.find("m") == RECORD
    assert not still_holds(facts, {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"})


def test_a_server_that_runs_has_its_own_variables_whatever_the_asking_programs_are(
    tmp_path: Path, book: EnvironmentBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of_this_process(book.installation())
    running, _ = as_seen_by_a_client(tmp_path, {**facts, "runs": True})
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert running.find("m") == RECORD
    # One whose facts do not say which variables it had is not believed.
    old, _ = as_seen_by_a_client(tmp_path, {**facts, "runs": True, "variables": {"OMP_NUM_THREADS": "5"}})
    assert old.find("m") is None


def test_a_package_that_came_or_was_rebuilt_makes_it_unknown(
    tmp_path: Path, book: EnvironmentBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "packages"
    installed = packages / "torch-2.13.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "RECORD").write_text("one")
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    facts = facts_of_this_process("i")
    assert still_holds(facts)

    (packages / "diffusers-1.dist-info").mkdir()
    os.utime(packages, ns=(1, 1))
    assert not still_holds(facts)


def test_an_interpreter_that_is_gone_or_replaced_makes_it_unknown(tmp_path: Path) -> None:
    facts = facts_of_this_process("i")
    assert not still_holds({**facts, "python": str(tmp_path / "python")})


def test_flags_that_were_turned_while_the_server_ran_are_not_those_of_a_new_one(tmp_path: Path) -> None:
    turned: dict[str, Any] = {"flags": {"tf32": False}}
    book = EnvironmentBook(tmp_path, label="server", live_flags=lambda: turned["flags"])
    book.publish("m", {**RECORD, "flags": {"tf32": False}})
    known, _ = as_seen_by_a_client(tmp_path, facts_of_this_process(book.installation()))
    fresh = known.find("m")
    assert (fresh is None) == ("torch" in sys.modules)
    book.publish("n", {**RECORD, "flags": {"tf32": True}})
    assert known.find("n") is None


async def test_the_next_server_would_be_another_pythons(world: World, tmp_path: Path) -> None:
    renderer = world.renderer()
    request = world.request()
    name = environment_name(request)
    await renderer.render(request, QuietWatcher())
    assert renderer.environments.find(name) == FAKE_ENVIRONMENT

    other = ServerRenderer(replace(world.settings, server_python=str(tmp_path / "python")))
    assert other.environments.find(name) == FAKE_ENVIRONMENT  # this server lives, and would be asked
    assert await stop(world.home)
    assert other.environments.find(name) is None
    assert renderer.environments.find(name) == FAKE_ENVIRONMENT
    await renderer.close()


async def test_the_server_remembers_only_environments_in_which_it_rendered(world: World) -> None:
    """A picture of the server before this one, with other packages, must not become a hit of this one."""
    renderer = world.renderer()
    await renderer.render(world.request(), QuietWatcher())
    known = renderer.environments

    known.publish("another model", {**FAKE_ENVIRONMENT, "versions": {"fake": "0"}})
    known.publish("hashed later", FAKE_ENVIRONMENT)

    while known.find("hashed later") is None:  # noqa: ASYNC110 - it is asked, it does not call
        await asyncio.sleep(0.02)
    assert known.find("hashed later") == FAKE_ENVIRONMENT
    assert known.find("another model") is None
    await renderer.close()


def test_weights_that_are_hashed_after_their_render_are_hits_later(world: World) -> None:
    files = FakeFiles()
    source = f"paint:{world.folder / 'weights-a'}"
    files.unhashed.add(source)
    request = make_request(model=ModelRef(source=source))
    plugins = find_plugins(folder=world.settings.plugin_dir, entry_points=False)
    with Runtime(world.settings, files=files, plugins=plugins) as runtime:
        first = runtime.generate_blocking(request)
        assert (first.status.outcome, first.status.stored) == (Outcome.MISS, True)
        files.hashed.set()
        asyncio.run(_until_hit(runtime, files, source, request))
    assert len(world.lines("renders.txt")) == 1


async def _until_hit(runtime: Runtime, files: FakeFiles, source: str, request: Any) -> None:
    files.unhashed.discard(source)
    resolved = files.resolve(runtime.engine.at_the_door(request))
    for _ in range(600):
        if runtime.environments.find(environment_name(resolved)) is not None:
            break
        await asyncio.sleep(0.1)
    runtime.store.flush()
    found = await runtime.generate(request)
    assert found.status.outcome is Outcome.HIT
