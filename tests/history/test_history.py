"""History: what was counted by the minute, for all processes together, and never at a request's cost."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from zit_ext.history import database
from zit_ext.history.reading import WIDTHS, widths_for
from zit_ext.history.tally import Look, Size, Tally
from zit_ext.records import Request
from zit_ext.testing_engine import TrialEngine

from .making import DAY, NOW, ROOT, answer, files, rows


def test_what_was_counted_is_there_after_a_restart(recorders):
    first = recorders()
    for outcome in ("hit", "hit", "miss"):
        first.answered(answer(outcome))
    first.event("corrupt")
    first.close()

    (moment,) = recorders().read(1).moments
    assert (moment.numbers["hit"], moment.numbers["miss"]) == (2, 1)
    assert moment.numbers["saved_seconds"] == 4.0
    assert moment.numbers["render_seconds"] == 2.0
    assert moment.reasons == {"absent": 1}
    assert (moment.hit_bins[0], sum(moment.hit_bins), sum(moment.miss_bins)) == (2, 2, 1)
    totals = recorders().totals()
    assert (totals.numbers["hit"], totals.events, totals.since) == (2, {"corrupt": 1}, NOW)


def test_several_processes_on_one_folder_add_up(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from zit_ext.history.recorder import Recorder\n"
        "from tests.history.making import answer, NOW\n"
        "recorder = Recorder(Path(sys.argv[1]), clock=lambda: NOW, write_seconds=0.005)\n"
        "for number in range(200):\n"
        "    recorder.answered(answer('hit' if number % 2 else 'miss'))\n"
        "    if number % 20 == 0: recorder.flush(30)\n"
        "while not recorder.flush(30): pass\n"
        "recorder.close()\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "history"), str(ROOT)])
        for _ in range(4)
    ]
    assert [each.wait(120) for each in running] == [0] * 4

    (path,) = files(tmp_path)
    assert rows(path, "SELECT step, sum(hit), sum(miss) FROM buckets GROUP BY step") == [
        (60, 400, 400),
        (900, 400, 400),
        (21_600, 400, 400),
    ]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows kills otherwise")
def test_a_process_that_is_killed_costs_its_last_moments_and_nothing_else(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from zit_ext.history.recorder import Recorder\n"
        "from tests.history.making import answer, NOW\n"
        "recorder = Recorder(Path(sys.argv[1]), clock=lambda: NOW, write_seconds=0.001)\n"
        "number = 0\n"
        "while True:\n"
        "    recorder.answered(answer())\n"
        "    number += 1\n"
        "    if recorder.flush(30): print(number, flush=True)\n"
    )
    written = 0
    for wanted in (1, 7, 23, 60):
        running = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "history"), str(ROOT)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert running.stdout is not None
        last = 0
        while last < wanted:
            last = int(running.stdout.readline())
        running.kill()
        for line in running.stdout.read().split():  # what it had still said
            last = int(line)
        running.wait(30)
        running.stdout.close()
        written += last

    (path,) = files(tmp_path)
    ((counted,),) = rows(path, "SELECT sum(hit) FROM buckets WHERE step = 60")
    assert written <= counted <= written + 4  # one of each may have been written and not said any more
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_namespace_is_told_of_its_own_requests_and_sizes_only(recorders):
    sizes = {None: Size(30, 3), "alice": Size(10, 1), "bob": Size(20, 2)}
    recorder = recorders(look=lambda: Look(NOW, sizes, ("m",)))
    recorder.answered(answer(namespace="alice"))
    recorder.answered(answer("bypass", namespace="bob", reason="seed"))
    recorder.look_now()

    def told(namespace):
        (moment,) = recorder.read(1, namespace).moments
        return moment.numbers.get("hit"), moment.reasons, moment.bytes, moment.entries

    assert told("alice") == (1, {}, 10, 1)
    assert told("bob") == (0, {"seed": 1}, 20, 2)
    assert told(None) == (1, {"seed": 1}, 30, 3)
    assert recorder.totals("alice").numbers["bypass"] == 0
    assert recorder.totals("nobody").numbers == {}
    (nothing,) = recorder.read(1, "nobody").moments  # that weights are held is told to whoever may read
    assert (nothing.numbers, nothing.reasons, nothing.bytes, nothing.models) == ({}, {}, None, ["m"])


def test_old_buckets_go_and_wide_ones_stay(recorders, tmp_path):
    now = NOW
    recorder = recorders(clock=lambda: now)
    recorder.answered(answer(at=NOW))
    recorder.flush(10)
    now = NOW + 30 * DAY
    recorder.answered(answer(at=now))
    recorder.flush(10)
    recorder.close()

    (path,) = files(tmp_path)
    found = rows(path, "SELECT step, count(*) FROM buckets GROUP BY step")
    assert found == [(60, 1), (900, 1), (21_600, 2)]
    assert rows(path, "SELECT step, count(*) FROM parts GROUP BY step") == [(60, 1), (900, 1), (21_600, 2)]
    again = recorders(clock=lambda: now)
    assert [each.numbers["hit"] for each in again.read(24 * 40).moments] == [1, 1]
    assert again.totals().numbers["hit"] == 2


def test_many_namespaces_do_not_make_the_file_grow_without_end(recorders, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MOST_ROWS", 50)
    monkeypatch.setattr(database, "MOST_TOTALS", 70)
    monkeypatch.setattr(database, "_PRUNE_SECONDS", 0.0)
    recorder = recorders()
    for number in range(40):
        recorder.answered(answer(at=NOW + 60 * number, namespace=f"space {number}"))
        recorder.flush(10)
    recorder.close()

    (path,) = files(tmp_path)
    for table in ("buckets", "parts"):
        assert rows(path, f"SELECT count(*) FROM {table}")[0][0] <= 53
    assert rows(path, "SELECT count(*) FROM totals")[0][0] < 80
    assert rows(path, "SELECT number FROM totals WHERE whole AND name = 'hit'") == [(40.0,)]


def test_what_waits_to_be_written_is_bounded():
    tally = Tally(most=10)
    for minute in range(50):
        tally.answered(answer(at=60.0 * minute))
    counted = tally.take()
    assert sorted(counted.buckets) == [(60 * minute, "default") for minute in range(40, 50)]

    tally.answered(answer(at=60.0 * 60))
    tally.give_back(counted)
    assert len(tally.take().buckets) == 10


def test_any_number_of_threads_may_count(recorders):
    recorder = recorders()
    threads = [
        threading.Thread(target=lambda: [recorder.answered(answer()) for _ in range(500)]) for _ in range(4)
    ]
    for each in threads:
        each.start()
    recorder.flush()
    for each in threads:
        each.join()
    (moment,) = recorder.read(1).moments
    assert moment.numbers["hit"] == 2000


@pytest.mark.parametrize("hours", [0.1, 1, 6, 24, 27, 24 * 7, 24 * 14, 24 * 30, 24 * 365, 24 * 730])
def test_a_chart_has_as_many_buckets_as_it_has_room_for(hours):
    step, source = widths_for(hours)
    assert step in WIDTHS
    assert step % source == 0
    assert hours * 3600 <= database.KEPT[source] or source == max(database.KEPT)
    assert hours * 3600 / step <= 800


def test_a_runtime_writes_down_what_became_of_its_requests(tmp_path):
    request = Request(prompt="a fox", seed=1)
    with TrialEngine(tmp_path, installed=False, namespace="mine") as trial:
        trial.generate(request)
        trial.generate(request)
        trial.generate(Request(prompt="a fox", seed=-1))
    with TrialEngine(tmp_path, installed=False, namespace="mine") as trial:
        history = trial.runtime.observer.history
        moments = history.read(1, "mine").moments
        assert history.read(1, "default").moments == []
        totals = history.totals("mine").numbers

    assert (totals["hit"], totals["miss"], totals["bypass"]) == (1, 1, 1)
    assert totals["saved_seconds"] == 1.0
    assert totals["render_seconds"] == 2.0
    reasons = {name: number for each in moments for name, number in each.reasons.items()}
    assert reasons == {"new_environment": 1, "seed": 1}
