"""Several processes of ours on one GPU: they know of each other, and park for each other."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.holder.neighbour import TOTAL, SharedDevice, renderer_on
from tests.holder.shelf import ZIMAGE, Device
from zit_ext.errors import OutOfMemoryError
from zit_ext.models.ledger import Ledger
from zit_ext.records import ModelRef
from zit_ext.renderers.local import LocalRenderer
from zit_ext.testing import QuietWatcher, make_request

ROOT = Path(__file__).parents[2]
LARGEST = ZIMAGE["transformer"]


def request(source: str):
    return make_request(model=ModelRef(source=source))


async def until(true, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


# The ledger


def test_rows_say_who_holds_what_and_go_with_their_process(tmp_path):
    one, other, third = (Ledger(tmp_path / "ledger", label) for label in ("one", "other", "third"))
    one.tell("cuda:0", 10)
    other.tell("cuda:0", 20)
    third.tell("cuda:1", 30)
    assert [(row.label, row.bytes) for row in one.others("cuda:0")] == [("other", 20)]
    other.tell("cuda:0", 5)
    assert [row.bytes for row in one.others("cuda:0")] == [5]
    other.tell("cuda:0", 0)
    assert one.others("cuda:0") == []
    for each in (one, other, third):
        each.close()
        each.close()
    assert list((tmp_path / "ledger").iterdir()) == []


def test_a_row_without_its_lock_is_void_and_swept_away(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from zit_ext.models.ledger import Ledger; "
        "Ledger(Path(sys.argv[1]), 'dead').tell('cuda:0', 99); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert len(list(tmp_path.glob("*.json"))) == 1
    assert Ledger(tmp_path).others("cuda:0") == []
    assert list(tmp_path.iterdir()) == []


ROW = '{"pid": 1, "label": "x", "device": "cuda:0", "bytes": "9"}'


@pytest.mark.parametrize(
    "torn", ["", "{", "[]", '{"pid": 1}', '{"odd": 1}', "[" * 200_000, ROW], ids=range(7)
)
def test_a_torn_row_is_not_there(tmp_path, torn):
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    other.tell("cuda:0", 5)
    next(tmp_path.glob("*.json")).write_text(torn)
    third = Ledger(tmp_path)
    third.tell("cuda:0", 7)
    assert [row.bytes for row in one.others("cuda:0")] == [7]
    third.close()
    other.close()


def test_nobody_waits_longer_than_his_patience_for_who_does_not_answer(tmp_path):
    deaf, asking = Ledger(tmp_path), Ledger(tmp_path)
    deaf.tell("cuda:0", 50)
    calls = []
    asking.ask_others("cuda:0", lambda: 10, meanwhile=lambda: calls.append(deaf.asks()), patience=0.3)
    assert [each.bytes for each in calls[0]] == [10]
    assert deaf.asks() == []
    deaf.close()


def test_without_lack_nobody_is_asked(tmp_path):
    idle, asking = Ledger(tmp_path), Ledger(tmp_path)
    idle.tell("cuda:0", 50)
    asking.ask_others("cuda:0", lambda: 0, meanwhile=lambda: pytest.fail("it asked"))
    idle.close()


# Two renderers on one GPU


@pytest.fixture
async def pair(tmp_path):
    """Two renderers on one GPU of 16 GB, as two processes would have them."""
    device = Device(TOTAL)
    made = [renderer_on(device, tmp_path / "ledger") for _ in range(2)]
    yield device, *made
    for each in made:
        await each.close(patience=10)
    assert not list((tmp_path / "ledger").iterdir())


async def render(renderer: LocalRenderer, source: str = "z"):
    return await renderer.render(request(source), QuietWatcher())


def told(folder: Path) -> list[int]:
    """The bytes that the ledger says are held, by whom ever."""
    return [row.bytes for row in Ledger(folder / "ledger").others("cuda:0")]


async def test_idle_weights_are_parked_for_another_process(pair, tmp_path, caplog):
    _, one, other = pair
    await render(one)
    await until(lambda: sum(told(tmp_path)) >= LARGEST)

    assert await render(other)

    await until(lambda: other.holdings().vram_bytes >= LARGEST)
    assert one.holdings().vram_bytes <= TOTAL - LARGEST
    await until(lambda: max(told(tmp_path)) == other.holdings().vram_bytes)
    assert await render(one)  # and the other way round
    assert "memory ran out" not in caplog.text


async def test_with_room_for_both_nobody_is_asked(tmp_path):
    device = Device(10 * TOTAL)
    one, other = (renderer_on(device, tmp_path / "ledger") for _ in range(2))
    await render(one)
    await until(lambda: told(tmp_path) == [sum(ZIMAGE.values())])
    await render(other)
    await until(lambda: told(tmp_path) == [sum(ZIMAGE.values())] * 2)
    await asyncio.gather(one.close(), other.close())


async def test_two_that_ask_each_other_at_once_both_get_their_pictures(pair):
    _, one, other = pair
    await asyncio.gather(render(one), render(other))
    for _ in range(3):
        await asyncio.gather(render(one, "a"), render(other, "b"), return_exceptions=True)
    assert await render(one)
    assert await render(other)


async def test_where_nothing_is_held_any_more_nobody_listens(pair, tmp_path):
    _, one, _ = pair
    await render(one)
    await until(lambda: list((tmp_path / "ledger").glob("*.json")))
    await one.unload_all()
    await until(lambda: not list((tmp_path / "ledger").iterdir()))
    assert await render(one)
    await until(lambda: list((tmp_path / "ledger").glob("*.json")))


async def test_a_ledger_that_cannot_be_written_costs_no_picture(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    renderer = renderer_on(Device(TOTAL), tmp_path / "file" / "ledger")
    assert await render(renderer)
    await until(lambda: "other processes do not hear" in caplog.text)
    assert await render(renderer)
    await renderer.close()


# Two processes


@pytest.fixture
def gpu(tmp_path) -> Path:
    (tmp_path / "gpu").mkdir()
    return tmp_path / "gpu"


@pytest.fixture
def neighbour(tmp_path, gpu) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has rendered and holds its weights on the GPU."""
    command = [sys.executable, "-m", "tests.holder.neighbour", str(tmp_path / "ledger"), str(gpu)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    yield child
    child.kill()
    child.communicate()


def held_by(child: subprocess.Popen[str]) -> int:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("?\n")
    child.stdin.flush()
    return int(child.stdout.readline())


async def test_another_process_parks_when_this_one_needs_the_room(tmp_path, gpu, neighbour, caplog):
    await until(lambda: told(tmp_path) and told(tmp_path)[0] >= LARGEST)
    renderer = renderer_on(SharedDevice(gpu), tmp_path / "ledger")

    assert await render(renderer, "ours")

    await until(lambda: renderer.holdings().vram_bytes >= LARGEST)
    assert held_by(neighbour) < TOTAL - LARGEST
    assert "memory ran out" not in caplog.text
    await renderer.close()


async def test_a_killed_process_is_not_waited_for(tmp_path, gpu, neighbour):
    neighbour.kill()
    neighbour.wait()
    used = next(gpu.glob("used-*"))
    assert Ledger(tmp_path / "ledger").others("cuda:0") == []
    used.unlink()  # as the driver does
    renderer = renderer_on(SharedDevice(gpu), tmp_path / "ledger")
    assert await render(renderer, "ours")
    await renderer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be stopped by a signal")
async def test_a_stopped_process_costs_time_and_then_an_error_that_says_what_lacks(
    tmp_path, gpu, neighbour, monkeypatch
):
    monkeypatch.setattr("zit_ext.models.ledger.PATIENCE", 0.5)
    await until(lambda: told(tmp_path) and told(tmp_path)[0] >= LARGEST)
    device = SharedDevice(gpu)
    (gpu / "used-0").write_text(str(device.free()))  # and the rest is somebody else's
    renderer = renderer_on(device, tmp_path / "ledger")
    neighbour.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(OutOfMemoryError):
            await render(renderer, "ours")
    finally:
        neighbour.send_signal(signal.SIGCONT)
    (gpu / "used-0").unlink()
    assert await render(renderer, "ours")
    await renderer.close()
