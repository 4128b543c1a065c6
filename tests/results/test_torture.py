"""The torture program itself, small: `python -m benchmarks.torture` does the same for hours."""

from __future__ import annotations

import random

from benchmarks import torture
from benchmarks.torture import Figures, _count_bytes, inject, is_wrong, keep, kill_writers, open_store


def test_writers_that_are_killed_leave_no_wrong_byte_and_none_uncounted(tmp_path, monkeypatch):
    monkeypatch.setattr(torture, "LIVES", (0.3,))
    figures = Figures()
    store = open_store(tmp_path)
    for number in range(30):
        keep(store, number)
        store.flush()
    store.close()
    kill_writers(tmp_path, 4, figures, random.Random(2))
    _count_bytes(tmp_path, figures)
    assert figures.kills == 4
    assert figures.answers_checked > 0
    assert not figures.failed, figures


def test_faults_of_every_kind_leave_no_wrong_byte_and_none_uncounted(tmp_path, monkeypatch):
    monkeypatch.setattr(torture, "MAX_ENTRIES", 25)
    figures = Figures()
    inject(tmp_path, 50, figures, random.Random(2))
    _count_bytes(tmp_path, figures)
    assert sum(figures.faults.values()) == 50
    assert len(figures.faults) >= 7
    assert figures.answers_checked > 10
    assert not figures.failed, figures


def test_a_wrong_answer_would_be_seen(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    keep(store, 1)
    store.flush()
    assert is_wrong(store, 1) is False
    monkeypatch.setattr(torture, "picture", lambda number: None)
    assert is_wrong(store, 1) is True
    store.close()
