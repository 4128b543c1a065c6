"""A renderer's environment is found again without torch, and never believed when something is odd."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from zit_ext.models import environment as module
from zit_ext.models.environment import EnvironmentBook, record_digest

from .conftest import age, write

MODEL, OTHER = "a" * 64, "b" * 64
RECORD = {"device": "cpu", "versions": {"torch": "2.13.0"}, "flags": {"threads": 2, "tf32": False}}
BARE = {"device": "fake", "versions": {"fake": "1"}}


@pytest.fixture(autouse=True)
def _no_torch_yet(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "environments"


def book(folder, flags=None, label="python"):
    """A program that begins; `flags` is what torch is set to, once it is imported."""
    return EnvironmentBook(folder, label, live_flags=lambda: flags)


def only_file(folder):
    (path,) = folder.glob("*.json")
    return path


def test_what_a_renderer_reported_is_found_by_the_next_program(folder):
    assert book(folder).find(MODEL) is None
    book(folder).publish(MODEL, RECORD)
    assert book(folder).find(MODEL) == RECORD
    assert book(folder).find(OTHER) is None


def test_every_model_has_its_own_record(folder):
    one = book(folder)
    one.publish(MODEL, RECORD)
    one.publish(OTHER, BARE)
    assert (one.find(MODEL), one.find(OTHER)) == (RECORD, BARE)


def test_a_newer_report_wins(folder):
    book(folder).publish(MODEL, RECORD)
    newer = {**RECORD, "device": "cuda"}
    book(folder).publish(MODEL, newer)
    assert book(folder).find(MODEL) == newer


def test_the_same_report_writes_nothing(folder):
    book(folder).publish(MODEL, RECORD)
    before = only_file(folder).stat()
    book(folder).publish(MODEL, RECORD)
    assert only_file(folder).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_CBWR"])
def test_another_installation_knows_nothing_of_it(folder, monkeypatch, name):
    book(folder).publish(MODEL, RECORD)
    with monkeypatch.context() as other:
        other.setenv(name, "17")
        assert book(folder).find(MODEL) is None
    assert book(folder).find(MODEL) == RECORD


def test_another_kind_of_program_knows_nothing_of_it(folder):
    book(folder).publish(MODEL, RECORD)
    assert book(folder, label="comfyui").find(MODEL) is None


def edited(path):
    content = json.loads(path.read_text())
    content["records"][MODEL]["record"]["device"] = "cuda"
    path.write_text(json.dumps(content))


def torn(path):
    path.write_bytes(path.read_bytes()[:-30])


def emptied(path):
    path.write_bytes(b"")


def of_another_installation(path):
    content = json.loads(path.read_text())
    content["installation"] = "c" * 64
    path.write_text(json.dumps(content))


def of_another_format(path):
    content = json.loads(path.read_text())
    content["format"] = 99
    path.write_text(json.dumps(content))


def something_else(path):
    path.write_text('["a list"]')


def nested_too_deep(path):
    path.write_text("[" * 200_000)


def records_that_are_none(path):
    content = json.loads(path.read_text())
    content["records"] = {MODEL: 5, OTHER: {"record": 1}}
    path.write_text(json.dumps(content))


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "harm",
    [
        edited,
        torn,
        emptied,
        of_another_installation,
        of_another_format,
        something_else,
        nested_too_deep,
        records_that_are_none,
        a_folder,
    ],
)
def test_whatever_is_wrong_with_the_file_means_not_known(folder, harm):
    book(folder).publish(MODEL, RECORD)
    harm(only_file(folder))
    assert book(folder).find(MODEL) is None
    book(folder).publish(MODEL, RECORD)
    if harm is not a_folder:
        assert book(folder).find(MODEL) == RECORD


def test_a_folder_that_cannot_be_written_to_costs_later_hits_only(folder):
    write(folder, b"a file where the folder should be")
    book(folder).publish(MODEL, RECORD)
    assert book(folder).find(MODEL) is None


@pytest.mark.parametrize("value", [float("nan"), object(), {1: "a"}, b"bytes", "\ud800"])
def test_a_record_that_cannot_be_told_again_is_not_remembered(folder, value):
    book(folder).publish(MODEL, {**BARE, "odd": value})
    assert book(folder).find(MODEL) is None


def test_records_survive_to_the_bit(folder):
    record = {**BARE, "numbers": [1e300, 0.1, 2**60, None, True], "text": "模型 😀"}
    book(folder).publish(MODEL, record)
    found = book(folder).find(MODEL)
    assert record_digest(found) == record_digest(record)


# Flags: what a program may turn while it runs


def test_flags_are_read_live_where_torch_is_imported(folder):
    book(folder).publish(MODEL, RECORD)
    turned = {"threads": 1, "tf32": True}
    assert book(folder, turned).find(MODEL) == {**RECORD, "flags": turned}


def test_flags_that_were_turned_before_are_not_those_of_a_fresh_start(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    late = book(folder, RECORD["flags"])  # somebody imported torch before us
    late.publish(MODEL, RECORD)
    assert late.find(MODEL) == RECORD
    monkeypatch.delitem(sys.modules, "torch")
    assert book(folder).find(MODEL) is None


def test_flags_that_were_turned_since_the_first_render_are_not_kept(folder):
    one = book(folder)
    one.publish(MODEL, RECORD)
    one.publish(OTHER, {**RECORD, "flags": {"threads": 1, "tf32": True}})
    assert book(folder).find(MODEL) == RECORD
    assert book(folder).find(OTHER) is None


def test_flags_of_a_fresh_start_are_not_given_up(folder, monkeypatch):
    book(folder).publish(MODEL, RECORD)
    monkeypatch.setitem(sys.modules, "torch", object())
    book(folder, RECORD["flags"]).publish(MODEL, RECORD)
    monkeypatch.delitem(sys.modules, "torch")
    assert book(folder).find(MODEL) == RECORD


def test_without_live_flags_a_record_says_nothing_once_torch_is_there(folder, monkeypatch):
    book(folder).publish(MODEL, RECORD)
    monkeypatch.setitem(sys.modules, "torch", object())
    assert book(folder, None).find(MODEL) is None


def test_flags_that_cannot_be_read_are_not_known(folder):
    def broken():
        raise RuntimeError("of torch")

    book(folder).publish(MODEL, RECORD)
    monkey = EnvironmentBook(folder, live_flags=broken)
    assert monkey.find(MODEL) == RECORD  # torch is not imported: a fresh start


def test_a_record_without_flags_needs_none(folder, monkeypatch):
    book(folder).publish(MODEL, BARE)
    monkeypatch.setitem(sys.modules, "torch", object())
    assert book(folder, None).find(MODEL) == BARE


# Its size


def test_only_the_newest_records_and_files_stay(folder, monkeypatch):
    monkeypatch.setattr(module, "_MAX_RECORDS", 3)
    monkeypatch.setattr(module, "_MAX_FILES", 2)
    for number in range(5):
        age(write(folder / f"{number}.json", "{}"), 1000 + number)
    torn_one = write(folder / ".new-x.json", "{")
    os.utime(torn_one, (time.time() - 7200,) * 2)
    one = book(folder)
    for number in range(5):
        one.publish(f"{number}" * 64, BARE)
    assert [one.find(f"{number}" * 64) is not None for number in range(5)] == [False, False, True, True, True]
    assert len(list(folder.glob("*.json"))) == 2
    assert not torn_one.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permissions of this kind")
def test_nobody_else_reads_it(folder):
    book(folder).publish(MODEL, RECORD)
    assert only_file(folder).stat().st_mode & 0o077 == 0
