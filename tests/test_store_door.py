"""A store that cannot be opened is tried again, behind the requests, and never holds anybody up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zit_ext import Outcome, store_door
from zit_ext.errors import StoreError
from zit_ext.testing import make_request


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(store_door, "RETRY_SECONDS", 0.01)


async def until(true):
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")


async def test_a_store_whose_folder_comes_later_is_used_from_then_on(in_engine, tmp_path, soon, caplog):
    folder = tmp_path / "drive"
    folder.write_text("not mounted yet")

    async def story(engine):
        before = await engine.generate(make_request())
        assert str(folder) in engine.store_problem
        folder.unlink()
        await until(lambda: engine.store_problem is None)
        return before, await engine.generate(make_request()), await engine.generate(make_request())

    answers = [each.status for each in await in_engine(story, cache_dir=folder)]
    assert [each.outcome for each in answers] == [Outcome.BYPASS, Outcome.MISS, Outcome.HIT]
    assert answers[0].reason == "store_unavailable"
    assert "could be opened at last" in caplog.text


async def test_a_trouble_that_stays_is_said_once(in_engine, tmp_path, soon, caplog):
    folder = tmp_path / "drive"
    folder.write_text("not mounted")
    tries = []

    async def story(engine):
        really = engine.store.open

        def counted():
            tries.append(1)
            really()

        engine.store.open = counted
        await until(lambda: len(tries) >= 3)
        return engine.metrics.snapshot().events

    events = await in_engine(story, cache_dir=folder)
    assert events["StoreError"] == 1
    assert caplog.text.count("renders go on without the result store") == 1


class Hanging:
    """A store whose drive does not answer when it is tried again."""

    def __init__(self, engine):
        self.began, self.answers, self.closed = (threading.Event() for _ in range(3))
        self.really_open, self.really_close = engine.store.open, engine.store.close
        engine.store.open, engine.store.close = self.open, self.close

    def open(self):
        self.began.set()
        assert self.answers.wait(30)
        self.really_open()

    def close(self):
        self.really_close()
        self.closed.set()


async def test_a_drive_that_hangs_holds_up_neither_requests_nor_the_end(in_engine, tmp_path, soon):
    folder = tmp_path / "drive"
    folder.write_text("not mounted")
    kept = []

    async def story(engine):
        hanging = Hanging(engine)
        kept.extend((engine, hanging))
        await asyncio.to_thread(hanging.began.wait, 30)
        return await engine.generate(make_request())

    assert (await in_engine(story, cache_dir=folder)).status.outcome is Outcome.BYPASS
    engine, hanging = kept
    folder.unlink()
    hanging.answers.set()  # the engine is closed long since: what opens now is closed
    assert await asyncio.to_thread(hanging.closed.wait, 30)
    with pytest.raises(StoreError, match="not open"):
        engine.store.usage()
