"""`zit-ext server`, `preload`, `unload` and `models`, against a real server with fake weights."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from zit_ext.cli import main
from zit_ext.models.ledger import Ledger
from zit_ext.testing import QuietWatcher

from .conftest import HERE, World, until

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    for name in os.environ:
        if name.startswith("ZIT_"):
            monkeypatch.delenv(name)
    for name, value in {
        "CONFIG": world.folder / "config.toml",
        "CACHE_DIR": world.settings.cache_dir,
        "DATA_DIR": world.settings.data_dir,
        "PLUGIN_DIR": HERE / "plugins",
        "DEVICE": "cpu",
        "MODEL": f"paint:{world.folder}/weights-a",
        "OFFLINE": "on",
    }.items():
        monkeypatch.setenv(f"ZIT_{name}", str(value))
    monkeypatch.setenv("HF_HOME", str(world.folder / "hf"))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def rows(ran: tuple[int, str, str]) -> Any:
    code, out, err = ran
    assert (code, err) == (0, "")
    return json.loads(out)


def test_where_no_server_runs_every_command_says_so_and_starts_none(world: World, cli: Cli) -> None:
    assert cli("server") == (0, "no model server runs (device cpu)\n", "")
    assert cli("server", "stop") == (0, "no model server runs (device cpu)\n", "")
    assert rows(cli("server", "--json"))["running"] is False
    assert rows(cli("server", "stop", "--json")) == {"stopped": False}
    assert rows(cli("server", "logs", "--json"))["lines"] == []
    assert cli("server", "logs")[2] == f"nothing is in {world.home.log}\n"
    assert rows(cli("models", "--json"))["held"] is None
    assert cli("models")[1].endswith("\nno model server runs that could hold weights\n")
    assert cli("unload", "--all") == (0, "nothing was held\n", "")
    assert not world.is_alive()


def test_models_says_what_our_programs_have_on_each_device(world: World, cli: Cli) -> None:
    ledger = Ledger(world.settings.data_dir / "ledger", "comfyui")
    ledger.tell("cuda:0", 12_300_000_000)
    row = rows(cli("models", "--json"))["devices"][0]
    assert (row["device"], row["label"], row["pid"], row["bytes"]) == (
        "cuda:0", "comfyui", os.getpid(), 12_300_000_000
    )  # fmt: skip
    assert cli("models")[1].splitlines()[-1].split() == ["cuda:0", "comfyui", str(os.getpid()), "12.3", "GB"]
    ledger.close()
    assert rows(cli("models", "--json"))["devices"] == []


def test_a_server_is_started_once_described_and_ended(world: World, cli: Cli) -> None:
    assert cli("server", "start")[0] == 0
    pid = world.pid()
    again = rows(cli("server", "start", "--json"))

    assert again["pid"] == pid
    assert (again["running"], again["device"], again["loads"], again["held"]) == (True, "cpu", 0, [])
    state = world.home.state()
    assert state is not None
    assert state.token not in json.dumps(again)
    assert cli("server")[1].startswith(f"a model server runs: process {pid}, port {state.port}, version ")
    assert "serving cpu on port" in cli("server", "logs", "--lines", "1")[1]
    assert len(rows(cli("server", "logs", "--lines", "1", "--json"))["lines"]) == 1

    assert cli("server", "stop") == (0, "the model server has ended\n", "")
    assert not world.is_alive()


def test_weights_that_one_command_loads_the_next_one_renders_with(world: World, cli: Cli) -> None:
    source = f"paint:{world.folder}/weights-a"
    other = f"paint:{world.folder}/weights-b"
    assert cli("preload")[1].startswith(f"{source} is ready in the model server, after ")
    assert rows(cli("preload", other, "--json"))["model"] == other

    made = rows(cli("generate", "a pier", "--seed", "7", "--json", "--out", str(world.folder / "pier.png")))
    assert made["outcome"] == "miss"
    assert [line.split()[0] for line in world.lines("loads.txt")] == ["weights-a", "weights-b"]

    held = rows(cli("models", "--json"))["held"]
    assert {each["source"] for each in held} == {source, other}
    assert {part["name"] for part in held[0]["parts"]} == {"text_encoder", "transformer", "vae"}
    assert sum(f"paint:{world.folder}" in line for line in cli("models")[1].splitlines()[2:]) >= 2
    assert "since its start: 2 loads, 1 render\n" in cli("server")[1]

    assert cli("unload") == (0, "let go of 1 model\n", "")
    assert cli("unload") == (0, f"nothing of {source} was held\n", "")
    assert rows(cli("unload", "--all", "--json")) == {"unloaded": 1}
    assert rows(cli("models", "--json"))["held"] == []


async def test_the_status_says_what_is_done_now(world: World, cli: Cli) -> None:
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))

    _, out, _ = await asyncio.to_thread(cli, "server")

    assert f"now: renders with paint:{world.folder}/weights-a" in out
    assert "rendering" in out
    world.let_go()
    await rendering
    await renderer.close()


async def test_unload_says_that_it_waits_for_a_render(world: World, cli: Cli) -> None:
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    threading.Timer(1.0, world.let_go).start()

    code, out, err = await asyncio.to_thread(cli, "unload")

    assert (code, out) == (0, "let go of 1 model\n")
    assert err.endswith("/weights-a renders: its weights go when the render is done\n")
    await rendering
    await renderer.close()


async def test_preload_says_that_it_waits_for_a_render(
    world: World, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer = world.renderer(world.with_settings(max_models=1))
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    preloading = asyncio.ensure_future(asyncio.to_thread(cli, "preload", f"paint:{world.folder}/weights-b"))

    one, other = (f"paint:{world.folder}/weights-{letter}" for letter in "ab")
    await until(lambda: f"{one} renders: {other} waits for its turn\n" in capsys.readouterr().err)
    world.let_go()

    code, out, _ = await preloading
    assert code == 0
    assert out.startswith(f"{other} is ready in the model server")
    await rendering
    await renderer.close()


def test_preload_needs_a_place_that_outlives_it(cli: Cli) -> None:
    code, out, err = cli("preload", "--settings", "renderer=local")
    assert (code, out) == (2, "")
    assert err.startswith("zit-ext: renderer = 'local': weights stay only in a model server")


def test_what_cannot_be_loaded_is_told_with_its_real_error(world: World, cli: Cli) -> None:
    (world.folder / "broken").touch()
    assert cli("preload") == (1, "", "zit-ext: the disk is on fire\n")
    assert cli("preload", str(world.folder / "nowhere"))[0] == 1
    assert cli("server", "dance")[0] == 2


async def test_a_killed_server_is_not_said_to_run(world: World, cli: Cli) -> None:
    assert (await asyncio.to_thread(cli, "server", "start"))[0] == 0
    os.kill(world.pid(), signal.SIGKILL)
    await until(lambda: not world.is_alive())
    assert await asyncio.to_thread(cli, "server") == (0, "no model server runs (device cpu)\n", "")
