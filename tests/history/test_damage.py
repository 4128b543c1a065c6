"""Whatever is wrong with the file of history costs a chart, and never an answer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from zit_ext.records import Outcome, Request
from zit_ext.testing_engine import TrialEngine

from .making import answer, files


def _no_database(path):
    path.write_bytes(b"this is no database" * 1000)


def _no_text(path):
    """Make a name in the schema one that Python cannot decode."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = path.read_bytes()
    assert b"tabletotals" in data
    path.write_bytes(data.replace(b"tabletotals", b"table\xbaotals"))


@pytest.mark.parametrize("damage", [_no_database, _no_text], ids=lambda each: each.__name__.strip("_"))
def test_a_file_that_cannot_be_read_is_left_and_a_new_one_begins(recorders, tmp_path, caplog, damage):
    first = recorders()
    first.answered(answer())
    first.close()
    (path,) = files(tmp_path)
    damage(path)

    second = recorders()
    assert second.read(1).moments == []
    second.answered(answer())
    (moment,) = second.read(1).moments

    assert moment.numbers["hit"] == 1
    assert files(tmp_path) != [path]
    assert "history cannot be" in caplog.text


def test_two_recorders_meet_again_after_one_of_them_began_a_new_file(recorders, tmp_path):
    one, other = recorders(), recorders()
    one.answered(answer())
    one.flush(10)
    other.answered(answer())
    other.flush(10)
    (path,) = files(tmp_path)
    path.write_bytes(b"this is no database" * 1000)
    Path(f"{path}-wal").unlink(missing_ok=True)
    one.read(1)  # sees the damage, whoever wrote it
    one.answered(answer())
    other.answered(answer())

    assert other.flush(10)
    (moment,) = one.read(1).moments
    assert moment.numbers["hit"] == 2


@pytest.mark.parametrize(
    "damage",
    ["UPDATE parts SET name = x'ff00'", "UPDATE totals SET number = 'x'", "UPDATE buckets SET hit = x'ff'"],
)
def test_rows_that_hold_something_else_cost_a_chart_and_no_error(recorders, tmp_path, damage):
    recorder = recorders()
    recorder.answered(answer())
    recorder.flush(10)
    (path,) = files(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()

    recorder.read(1)
    assert recorder.totals().hit_rate in (None, 1.0)


def test_a_folder_that_cannot_be_written_costs_history_and_no_answer(tmp_path, caplog):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "history").write_text("a file where the folder should be")
    with TrialEngine(tmp_path / "cache", installed=False) as trial:
        request = Request(prompt="a fox", seed=1)
        assert trial.generate(request).status.outcome is Outcome.MISS
        assert trial.generate(request).status.outcome is Outcome.HIT
        history = trial.runtime.observer.history
        assert history.read(1).moments == []
        assert history.totals().since is None
        assert trial.runtime.metrics.snapshot().requests == {"miss": 1, "hit": 1}
    assert caplog.text.count("history cannot be") == 1  # said once, and not every five seconds


def test_a_file_that_somebody_locks_keeps_nobody_waiting(recorders, tmp_path):
    recorder = recorders()
    recorder.answered(answer())
    recorder.flush(10)
    (path,) = files(tmp_path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    recorder.answered(answer())
    assert recorder.flush(10)  # it was tried
    holder.execute("ROLLBACK")
    holder.close()

    (moment,) = recorder.read(1).moments
    assert moment.numbers["hit"] == 2  # and nothing was lost


def test_a_file_of_a_newer_version_is_not_touched(recorders, tmp_path):
    (tmp_path / "history").mkdir()
    path = tmp_path / "history" / f"history-{1:020d}.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (a)")
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()

    recorder = recorders()
    recorder.answered(answer())
    assert recorder.read(1).moments == []
    recorder.close()

    assert path.read_bytes() == before
