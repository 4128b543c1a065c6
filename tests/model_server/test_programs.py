"""Real programs that share a server, and die."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from zit_ext.model_server import starting
from zit_ext.model_server.starting import stop

from .conftest import World, until


async def test_two_programs_ask_for_one_model_and_it_is_read_once(world: World) -> None:
    one, other = world.client("one"), world.client("other")

    first, second = one.answer(), other.answer()

    assert (first["outcome"], second["outcome"]) == ("miss", "miss")
    assert len(world.lines("loads.txt")) == 1
    assert sorted(world.lines("renders.txt")) == ["one", "other"]
    assert not first["torch"]


async def test_a_killed_program_frees_its_request_and_the_next_miss_needs_no_load(world: World) -> None:
    world.hold()
    client = world.client("killed")
    await until(lambda: world.lines("renders.txt") == ["killed"])

    client.kill()

    await until(lambda: world.lines("ended.txt") == ["killed"])
    world.let_go()
    again = await asyncio.to_thread(world.client("killed").answer)
    assert (again["outcome"], again["stored"]) == ("miss", True)
    assert world.lines("renders.txt") == ["killed", "killed"]
    assert len(world.lines("loads.txt")) == 1


async def test_a_server_killed_in_mid_render_costs_the_program_one_retry_and_its_picture_is_kept(
    world: World,
) -> None:
    world.hold()
    client = world.client("killed")
    await until(lambda: world.lines("renders.txt") == ["killed"])

    os.kill(world.pid(), signal.SIGKILL)
    world.let_go()
    made = await asyncio.to_thread(client.answer)

    assert (made["outcome"], made["stored"]) == ("miss", True)
    assert "a new one made the picture" in made["warnings"][0]
    assert world.lines("renders.txt") == ["killed", "killed"]
    assert world.client("killed").answer()["outcome"] == "hit"


async def test_eight_programs_at_once_start_one_server(world: World) -> None:
    clients = [world.client(f"{number}") for number in range(8)]

    assert [client.answer()["outcome"] for client in clients] == ["miss"] * 8

    assert len(world.lines("loads.txt")) == 1
    assert sorted(world.lines("renders.txt")) == [f"{number}" for number in range(8)]


async def test_hits_of_a_new_program_need_neither_server_nor_torch(world: World) -> None:
    made = world.client("kept").answer()
    assert (made["outcome"], made["stored"]) == ("miss", True)
    assert await stop(world.home)

    found = world.client("kept").answer()

    assert (found["outcome"], found["digest"], found["key"]) == ("hit", made["digest"], made["key"])
    assert not found["torch"]
    assert not world.is_alive()


async def test_stop_leaves_the_server_that_a_waiting_program_starts_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hold()
    client = world.client("stopped")
    await until(lambda: world.lines("renders.txt"))
    first = world.pid()
    look = starting._is_gone

    async def look_late(*about: Any) -> bool:
        await until(lambda: world.home.holder("lock") not in (first, None))
        return await look(*about)

    monkeypatch.setattr(starting, "_is_gone", look_late)
    assert await stop(world.home, patience=1.0)
    world.let_go()

    answered = client.answer()
    assert answered["outcome"] == "miss"
    assert world.pid() != first


async def test_only_the_client_keeps_results(world: World) -> None:
    world.client("kept").answer()
    elsewhere = str(world.folder / "another cache")

    found = world.client("kept", cache_dir=elsewhere).answer()

    assert (found["outcome"], found["stored"]) == ("miss", True)
    assert world.lines("renders.txt") == ["kept", "kept"]
    assert world.client("kept", cache_dir=elsewhere).answer()["outcome"] == "hit"


async def test_other_variables_of_numerical_libraries_are_another_environment(world: World) -> None:
    world.client("kept").answer()
    assert await stop(world.home)

    found = world.client("kept", environ={"OMP_NUM_THREADS": "3"}).answer()

    assert found["outcome"] == "miss"


async def test_a_render_under_plugins_that_disagree_is_answered_and_not_kept(world: World) -> None:
    world.client("first").answer()  # starts the server, which knows no brush

    wide = world.client("wide", environ={"ZIT_TEST_BRUSH": "wide"}).answer()

    assert (wide["outcome"], wide["stored"], wide["key"]) == ("miss", False, None)
    assert "paint.brush is 'wide' in this program and absent in the model server" in wide["warnings"][0]
    assert await stop(world.home)
    again = world.client("wide", environ={"ZIT_TEST_BRUSH": "wide"}).answer()
    assert (again["stored"], again["warnings"]) == (True, [])
