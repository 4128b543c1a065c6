"""One server for each user and device: how it comes, is found, is replaced, and goes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from zit_ext import __version__
from zit_ext.errors import ServerError
from zit_ext.history.database import FOLDER
from zit_ext.history.reading import totals_in
from zit_ext.model_server.home import ServerHome, State
from zit_ext.model_server.starting import ANOTHER_SERVES, reach, settings_argument, stop
from zit_ext.renderers.choosing import wants_server
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.testing import QuietWatcher, fake_content

from .conftest import HERE, World, until

OF_VERSION = (
    "import sys, zit_ext; zit_ext.__version__ = sys.argv.pop(1); "
    "from zit_ext.model_server.process import main; sys.exit(main(sys.argv[1:]))"
)


def start_directly(world: World, *command: str) -> subprocess.Popen[bytes]:
    """Start a server as a person would, in the foreground."""
    return subprocess.Popen(
        [
            sys.executable,
            *(command or ("-m", "zit_ext.model_server")),
            "--settings",
            settings_argument(world.settings),
        ],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def test_of_eight_servers_that_are_started_at_once_one_serves(world: World) -> None:
    servers = [start_directly(world) for _ in range(8)]

    await until(lambda: sum(server.poll() is None for server in servers) == 1)

    assert [server.poll() for server in servers].count(ANOTHER_SERVES) == 7
    alive = next(server for server in servers if server.poll() is None)
    assert world.pid() == world.home.holder("lock") == alive.pid
    assert await stop(world.home)
    assert await asyncio.to_thread(alive.wait, 30) == 0


async def test_what_a_killed_server_left_behind_is_not_believed(world: World) -> None:
    renderer = world.renderer()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        stranger.setblocking(False)
        world.home.write_state(a_state(stranger.getsockname()[1]))

        assert world.home.state() is None
        assert not wants_server(replace(world.settings, renderer="auto"))
        assert await renderer.holdings() is None
        assert await renderer.render(world.request(), QuietWatcher())

        with pytest.raises(BlockingIOError):
            stranger.accept()  # nobody called there
    assert wants_server(replace(world.settings, renderer="auto"))
    await renderer.close()


@pytest.mark.parametrize(
    "torn",
    [b"", b"{", b"[]", b'{"port": "x"}', b'{"format": 1, "nonsense": 2}', b"\xff", b"[" * 200_000],
    ids=range(7),
)
async def test_a_state_that_cannot_be_read_is_none(world: World, torn: bytes) -> None:
    lock = world.home.try_lock("lock")
    assert lock is not None
    with world.home.held(lock):
        (world.home.folder / "state.json").write_bytes(torn)
        assert world.home.state() is None
        assert await reach(world.home) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"port": -1},
        {"port": 99_999},
        {"port": None},
        {"token": 5},
        {"version": None},
        {"python": 5},
        {"facts": None},
        {"facts": {"path": None}},
        {"facts": {"path": [[]]}},
        {"facts": {"path": ["\0"], "python": "p", "prefix": "/"}},
        {"facts": {"path": [], "python": "p", "prefix": "/", "variables": 5}},
    ],
)
async def test_a_state_of_other_types_keeps_no_program_from_starting_or_looking_up(
    world: World, changed: dict[str, object]
) -> None:
    state = {
        "port": 1,
        "token": "t",
        "pid": 1,
        "version": __version__,
        "device": "cpu",
        "facts": {"path": []},
    }
    lock = world.home.try_lock("lock")
    assert lock is not None
    for name in ("state.json", "last.json"):
        (world.home.folder / name).write_text(json.dumps(state | changed))
    looker = ServerRenderer(replace(world.settings, renderer="server"))
    with world.home.held(lock):
        wants_server(replace(world.settings, renderer="auto"))
        assert await reach(world.home) is None
        assert looker.environments.find("a") is None
    assert looker.environments.find("a") is None  # of the one that ran last
    await looker.close()


async def test_a_server_that_does_not_answer_is_named_and_not_joined_by_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zit_ext.model_server.connection.HANDSHAKE_SECONDS", 0.3)
    renderer = world.renderer()
    lock = world.home.try_lock("lock")
    assert lock is not None
    with world.home.held(lock), socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        world.home.write_state(a_state(deaf.getsockname()[1]))

        with pytest.raises(ServerError, match=f"process {os.getpid()}\\) is there and does not answer"):
            await renderer.render(world.request(), QuietWatcher())
    await renderer.close()


async def test_a_hung_server_is_ended_by_force(world: World) -> None:
    script = (
        "import sys, time; from pathlib import Path; from zit_ext.model_server.home import ServerHome; "
        "lock = ServerHome(Path(sys.argv[1])).try_lock('lock'); print(lock, flush=True); time.sleep(600)"
    )
    hung = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
        [sys.executable, "-c", script, str(world.home.folder)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        stdout=subprocess.PIPE,
    )
    assert hung.stdout is not None
    assert hung.stdout.readline()

    assert await stop(world.home, patience=0.2)

    assert hung.wait(30) != 0
    hung.stdout.close()
    assert not await stop(world.home)


async def test_an_older_server_is_replaced_when_it_is_idle(world: World) -> None:
    old = start_directly(world, "-c", OF_VERSION, "0.0.1")
    await until(world.home.state)
    renderer = world.renderer()

    rendered = await renderer.render(world.request(), QuietWatcher())

    assert rendered.content == fake_content(world.request())
    assert await asyncio.to_thread(old.wait, 30) == 0
    state = world.home.state()
    assert state is not None
    assert state.version == __version__
    await renderer.close()


async def test_an_older_server_at_work_finishes_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = start_directly(world, "-c", OF_VERSION, "0.0.1")
    await until(world.home.state)
    world.hold()
    older, newer = world.renderer(), world.renderer(world.with_settings(server_start_timeout=1.0))
    with monkeypatch.context() as patch:
        patch.setattr("zit_ext.model_server.connection.__version__", "0.0.1")
        rendering = asyncio.ensure_future(older.render(world.request("old"), QuietWatcher()))
        await until(lambda: world.lines("renders.txt") == ["old"])

    with pytest.raises(ServerError, match=r"older version 0\.0\.1 still renders for others"):
        await newer.render(world.request("new"), QuietWatcher())

    world.let_go()
    assert (await rendering).content == fake_content(world.request("old"))
    assert await asyncio.to_thread(old.wait, 30) == 0
    await asyncio.gather(older.close(), newer.close())


async def test_a_newer_server_is_left_alone_and_the_remedy_is_told(world: World) -> None:
    new = start_directly(world, "-c", OF_VERSION, "99.0.0")
    await until(world.home.state)
    renderer = world.renderer()

    with pytest.raises(ServerError, match=r"newer version 99\.0\.0.*restart this program"):
        await renderer.render(world.request(), QuietWatcher())

    assert await renderer.holdings() is None
    assert new.poll() is None
    assert await stop(world.home)
    assert await asyncio.to_thread(new.wait, 30) == 0
    await renderer.close()


async def test_a_server_that_nobody_asks_ends(world: World) -> None:
    renderer = world.renderer(world.with_settings(server_idle_timeout=0.5))
    await renderer.render(world.request(), QuietWatcher())

    await until(lambda: not world.is_alive())

    assert "the server ends: nobody asks" in world.home.log.read_text()
    assert not (world.home.folder / "state.json").exists()
    assert await renderer.render(world.request(), QuietWatcher())  # and comes again
    await renderer.close()


async def test_whoever_only_looks_keeps_no_server_from_ending(world: World) -> None:
    renderer = world.renderer(world.with_settings(server_idle_timeout=0.5))
    await renderer.render(world.request(), QuietWatcher())

    deadline = time.monotonic() + 30
    while world.is_alive():  # as a dashboard does that is left open
        assert time.monotonic() < deadline
        await renderer.holdings()
        await asyncio.sleep(0.05)

    assert "the server ends: nobody asks" in world.home.log.read_text()
    await renderer.close()


async def test_history_knows_how_long_the_server_read_weights(world: World) -> None:
    renderer = world.renderer(world.with_settings(server_idle_timeout=0.5))
    await renderer.render(world.request(), QuietWatcher())
    held = await renderer.holdings()
    assert held is not None
    await until(lambda: not world.is_alive())

    told = totals_in(world.settings.cache_dir / FOLDER)
    assert told.numbers["load_seconds"] == pytest.approx(held.load_seconds)
    assert held.load_seconds > 0
    await renderer.close()


async def test_a_server_at_work_is_not_idle(world: World) -> None:
    renderer = world.renderer(world.with_settings(server_idle_timeout=0.2))
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    await asyncio.sleep(1.0)
    world.let_go()
    assert (await rendering).warnings == ()
    await renderer.close()


async def test_state_lock_and_log_are_for_this_user_only(world: World) -> None:
    renderer = world.renderer()
    await renderer.render(world.request("a secret lighthouse"), QuietWatcher())
    state = world.home.state()
    assert state is not None
    files = sorted(path for path in world.home.folder.iterdir() if path.is_file())

    if sys.platform != "win32":
        assert stat.S_IMODE(world.home.folder.stat().st_mode) == 0o700
        open_to_others = [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]
        assert open_to_others == []
    with_token = [path.name for path in files if state.token in path.read_text(errors="replace")]
    assert with_token == ["state.json"]
    assert not any("secret" in path.read_text(errors="replace") for path in files)
    await renderer.close()


async def test_the_log_rotates(world: World) -> None:
    world.home.folder.mkdir(parents=True)
    world.home.log.write_text("x" * 1_000_001)
    renderer = world.renderer()
    await renderer.render(world.request(), QuietWatcher())

    assert "serving cpu on port" in world.home.log.read_text()
    assert world.home.log.with_name("log.txt.1").stat().st_size == 1_000_001
    await renderer.close()


async def test_a_server_that_cannot_start_gives_its_last_words(world: World) -> None:
    program = world.folder / "python"
    program.write_text("#!/bin/sh\necho 'no such module: torch' >&2\nexit 7\n")
    program.chmod(0o755)
    renderer = ServerRenderer(replace(world.settings, server_python=str(program)))
    with pytest.raises(ServerError, match="ended with code 7 while it started: no such module: torch"):
        await renderer.render(world.request(), QuietWatcher())

    renderer = ServerRenderer(replace(world.settings, server_python=str(world.folder / "nowhere")))
    with pytest.raises(ServerError, match="nowhere cannot be started"):
        await renderer.render(world.request(), QuietWatcher())
    await renderer.close()


async def test_a_server_whose_python_lacks_a_package_says_which_in_one_line(world: World) -> None:
    program = world.folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')  # its packages are not seen
    program.chmod(0o755)
    renderer = ServerRenderer(replace(world.settings, server_python=str(program)))
    with pytest.raises(
        ServerError, match="started: ModuleNotFoundError: No module named 'pluggy'; see "
    ) as it:
        await renderer.render(world.request(), QuietWatcher())

    assert "\n" not in str(it.value)
    assert str(it.value).endswith(str(world.home.output))  # the whole traceback is there
    assert "Traceback" in world.home.output.read_text()
    await renderer.close()


async def test_a_server_that_never_comes_up_is_given_up(world: World) -> None:
    program = world.folder / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    hasty = world.with_settings(server_start_timeout=0.5)
    renderer = ServerRenderer(replace(hasty, server_python=str(program)))
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"did not start within 0\.5 seconds"):
        await renderer.render(world.request(), QuietWatcher())
    assert time.monotonic() - began < 300
    await renderer.close()


async def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(world: World) -> None:
    (world.folder / "data").write_text("a file")
    renderer = world.renderer()
    with pytest.raises(ServerError, match="see the setting data_dir"):
        await renderer.render(world.request(), QuietWatcher())
    assert await renderer.holdings() is None
    assert not wants_server(replace(world.settings, renderer="auto"))
    await renderer.close()
    (world.folder / "data").unlink()


def test_devices_have_homes_of_their_own(world: World) -> None:
    def home(device: str) -> Path:
        return ServerHome.of(replace(world.settings, device=device)).folder

    assert home("cuda") == home("cuda:0")
    assert len({home("cuda:0"), home("cuda:1"), home("cpu"), home("auto")}) == 4


@pytest.mark.parametrize(
    ("renderer", "label", "wanted"),
    [
        ("local", "a1111", False),
        ("server", "comfyui", True),
        ("auto", "a1111", True),
        ("auto", "comfyui", False),
        ("auto", "python", False),
    ],
)
def test_who_renders_is_what_the_setting_says(world: World, renderer: str, label: str, wanted: bool) -> None:
    assert wants_server(replace(world.settings, renderer=renderer), label) is wanted


def a_state(port: int) -> State:
    return State(port=port, token="t" * 64, pid=1, version=__version__, device="cpu")
