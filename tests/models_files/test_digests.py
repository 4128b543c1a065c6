"""Digests are of content, are remembered only where that proves anything, and say nothing otherwise."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time

import pytest

from zit_ext.errors import ModelError
from zit_ext.models.digest_memo import FILE_NAME, MAX_ROWS, DigestMemo
from zit_ext.models.digests import Digests, digest_of
from zit_ext.models.weight_files import SeenFile, look

from .conftest import age, later, timed_changes, write, write_model

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def digest(digests, path):
    files = look(path)
    return digest_of(files, digests.hash(files) or {})


# Of content


def test_a_file_has_the_sha256_of_its_bytes(digests, tmp_path):
    assert digest(digests, write(tmp_path / "ae.safetensors", b"weights")) == WEIGHTS
    assert digest(digests, write(tmp_path / "none.safetensors", b"")) == hashlib.sha256(b"").hexdigest()
    large = os.urandom(9_000_000)
    assert digest(digests, write(tmp_path / "large", large)) == hashlib.sha256(large).hexdigest()


def test_a_folder_has_the_same_digest_wherever_it_is_and_whatever_it_is_called(digests, tmp_path):
    one, other = write_model(tmp_path / "one"), write_model(tmp_path / "模型" / "other 😀")
    write(other / "README.md", "another text")
    assert digest(digests, one) == digest(digests, other)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "transformer/model.safetensors",
        "vae/config.json",
        "vae/model.safetensors",
        "something.unknown",
    ],
)
def test_every_file_of_a_model_is_in_its_digest(digests, model_folder, name):
    before = digest(digests, model_folder)
    write(model_folder / name, b"changed")
    assert digest(digests, model_folder) != before


def test_what_a_file_is_called_is_in_the_digest_of_its_folder(digests, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one / "a.safetensors", b"1"), write(one / "b.safetensors", b"2")
    write(other / "a.safetensors", b"2"), write(other / "b.safetensors", b"1")
    assert digest(digests, one) != digest(digests, other)


def test_a_folder_with_one_file_is_not_that_file(digests, tmp_path):
    file = write(tmp_path / "m" / "ae.safetensors")
    assert digest(digests, file) != digest(digests, file.parent)


# Remembered


def test_what_was_hashed_is_not_read_again_by_another_program_either(
    digests, model_folder, tmp_path, nobody_reads
):
    files = look(model_folder)
    hashed = digests.hash(files)
    nobody_reads()
    assert digests.known(files) == hashed
    assert Digests(tmp_path / "cache").known(look(model_folder)) == hashed


def rewritten(file):
    write(file, b"other bytes")


def same_size(file):
    write(file, b"WEIGHTS")
    age(file, 5)


def edited_in_place_with_its_time_restored(file):
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"W")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_size == before.st_size


def replaced_with_its_time_restored(file):
    before = file.stat()
    other = write(file.with_name("new"), b"WEIGHTS")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)


@pytest.mark.parametrize(
    "change",
    [
        rewritten,
        same_size,
        pytest.param(edited_in_place_with_its_time_restored, marks=timed_changes),
        replaced_with_its_time_restored,
    ],
)
def test_a_file_that_changed_is_not_known(digests, tmp_path, change):
    file = write(tmp_path / "ae.safetensors", b"weights")
    assert digests.hash(look(file)) is not None
    assert list(digests.known(look(file)).values()) == [WEIGHTS]
    change(file)
    assert digests.known(look(file)) == {}
    assert Digests(tmp_path / "cache", clock=later()).known(look(file)) == {}
    assert digest(digests, file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_each_word_of_the_file_system_counts(tmp_path):
    memo = DigestMemo(tmp_path)
    seen = SeenFile("", "/m/ae.safetensors", 1, 2, 3, 4, 5)
    memo.note({seen: WEIGHTS})
    assert DigestMemo(tmp_path).find([seen]) == {seen: WEIGHTS}
    for at in range(5):
        numbers = [1, 2, 3, 4, 5]
        numbers[at] = 99
        assert DigestMemo(tmp_path).find([SeenFile("", "/m/ae.safetensors", *numbers)]) == {}
        assert memo.find([SeenFile("", "/m/ae.safetensors", *numbers)]) == {}
    assert memo.find([SeenFile("", "/other/ae.safetensors", 1, 2, 3, 4, 5)]) == {}


def test_a_young_file_is_hashed_but_not_remembered(tmp_path):
    digests = Digests(tmp_path / "cache")
    file = write(tmp_path / "ae.safetensors", b"weights")
    assert digest(digests, file) == WEIGHTS
    assert digests.known(look(file)) == {}


def test_a_file_that_only_looks_old_is_young(tmp_path):
    # Whoever restores the time of the last write cannot restore that of the last change.
    digests = Digests(tmp_path / "cache")
    file = write(tmp_path / "ae.safetensors", b"weights")
    age(file, 1000)
    assert digest(digests, file) == WEIGHTS
    assert digests.known(look(file)) == {}


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_file_that_stood_still_before_our_eyes_is_remembered_whatever_the_clocks_say(tmp_path, hours):
    now = [0.0]
    clock = later(-3600.0 * 24)  # everything was written in the future
    digests = Digests(tmp_path / "cache", clock=clock, monotonic=lambda: now[0])
    file = write(tmp_path / "ae.safetensors", b"weights")
    age(file, hours * 3600)
    assert digest(digests, file) == WEIGHTS
    assert digests.known(look(file)) == {}
    now[0] += 2.0
    assert digest(digests, file) == WEIGHTS
    assert list(digests.known(look(file)).values()) == [WEIGHTS]


def test_young_files_can_be_waited_for(tmp_path):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    digests = Digests(tmp_path, clock=lambda: 0.0, monotonic=lambda: now[0], sleep=sleep)
    file = write(tmp_path / "ae.safetensors")
    assert digests.wait_until_settled(look(file))
    assert 2.0 <= now[0] < 3.0


def test_waiting_ends_when_the_file_changes_or_to_stop_is_wanted(tmp_path):
    file = write(tmp_path / "ae.safetensors")

    def sleep(seconds):
        write(file, b"again")

    digests = Digests(tmp_path, clock=lambda: 0.0, monotonic=lambda: 0.0, sleep=sleep)
    assert not digests.wait_until_settled(look(file))
    assert not digests.wait_until_settled(look(file), lambda: True)


# While files change, go, or cannot be read


def test_a_file_that_changes_while_it_is_read_has_no_digest(digests, tmp_path):
    file = write(tmp_path / "large", bytes(9_000_000))
    blocks = []

    def between_blocks():
        blocks.append(1)
        if len(blocks) == 2:
            with file.open("r+b") as opened:
                opened.write(b"x")
        return False

    assert digests.hash(look(file), between_blocks) is None
    assert digests.known(look(file)) == {}


def test_a_file_that_is_replaced_while_it_is_read_has_no_digest(digests, tmp_path):
    file = write(tmp_path / "large", bytes(9_000_000))

    def between_blocks():
        if not (tmp_path / "old").exists():
            before = file.stat()
            file.rename(tmp_path / "old")
            write(file, os.urandom(9_000_000))
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        return False

    assert digests.hash(look(file), between_blocks) is None


@pytest.mark.parametrize("size", [0, 3, 20])
def test_a_file_that_grows_or_shrinks_after_it_was_seen_has_no_digest(digests, tmp_path, size):
    file = write(tmp_path / "ae.safetensors", bytes(10))
    files = look(file)
    file.write_bytes(bytes(size))
    assert digests.hash(files) is None


def test_a_file_that_is_gone_has_no_digest(digests, model_folder):
    files = look(model_folder)
    (model_folder / "vae" / "model.safetensors").unlink()
    assert digests.hash(files) is None


def test_hashing_stops_when_it_is_asked_to(digests, tmp_path, model_folder):
    file = write(tmp_path / "large", bytes(9_000_000))
    asked = []

    def wants_stop():
        asked.append(1)
        return len(asked) > 1

    assert digests.hash(look(file), wants_stop) is None
    assert digests.hash(look(model_folder), lambda: True) is None


def test_a_file_that_may_not_be_read_is_named(digests, unreadable):
    with pytest.raises(ModelError, match="cannot be read") as refused:
        digests.hash(look(unreadable))
    assert str(unreadable) in str(refused.value)


def test_a_folder_where_a_file_was_is_no_file(digests, tmp_path):
    file = write(tmp_path / "ae.safetensors")
    files = look(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        digests.hash(files)


# The memo


def test_a_damaged_memo_is_begun_anew(digests, tmp_path):
    file = write(tmp_path / "ae.safetensors", b"weights")
    write(tmp_path / "cache" / FILE_NAME, b"no database " * 500)
    assert digests.known(look(file)) == {}
    assert digest(digests, file) == WEIGHTS
    assert list(Digests(tmp_path / "cache").known(look(file)).values()) == [WEIGHTS]


@pytest.mark.parametrize(
    ("name", "wrong"), [(b"tabledigests_2", b"table\xbaigests_2"), (b"stat", b"\xbatat")]
)
def test_a_memo_whose_names_are_no_text_is_begun_anew(digests, tmp_path, name, wrong):
    file = write(tmp_path / "ae.safetensors", b"weights")
    assert digest(digests, file) == WEIGHTS
    database = tmp_path / "cache" / FILE_NAME
    data = database.read_bytes()
    assert name in data
    database.write_bytes(data.replace(name, wrong))
    fresh = Digests(tmp_path / "cache", clock=later())
    assert fresh.known(look(file)) == {}
    assert digest(fresh, file) == WEIGHTS
    assert list(Digests(tmp_path / "cache", clock=later()).known(look(file)).values()) == [WEIGHTS]


def test_a_memo_with_a_damaged_page_costs_a_hash_and_nothing_else(digests, tmp_path):
    model = write_model(tmp_path / "model")
    hashed = digests.hash(look(model))
    database = tmp_path / "cache" / FILE_NAME
    data = bytearray(database.read_bytes())
    data[4096:8192] = os.urandom(4096)
    database.write_bytes(data)
    fresh = Digests(tmp_path / "cache", clock=later())
    assert all(hashed[each] == found for each, found in fresh.known(look(model)).items())
    assert fresh.hash(look(model)) == hashed
    assert fresh.known(look(model)) == hashed


def test_a_digest_that_is_none_is_not_believed(digests, tmp_path):
    file = write(tmp_path / "ae.safetensors", b"weights")
    digests.hash(look(file))
    with sqlite3.connect(tmp_path / "cache" / FILE_NAME) as database:
        database.execute("UPDATE digests_2 SET digest = 'DROP TABLE'")
    database.close()
    assert Digests(tmp_path / "cache").known(look(file)) == {}


def test_a_memo_that_is_busy_holds_nobody_up(digests, tmp_path):
    file = write(tmp_path / "ae.safetensors", b"weights")
    digests.hash(look(file))
    holder = sqlite3.connect(tmp_path / "cache" / FILE_NAME, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert Digests(tmp_path / "cache").known(look(file)) == {}
        assert list(digests.known(look(file)).values()) == [WEIGHTS]
    finally:
        holder.close()


def test_a_folder_that_cannot_be_written_to_costs_only_the_memory(tmp_path):
    blocked = write(tmp_path / "cache", b"a file where the folder should be")
    digests = Digests(blocked, clock=later())
    file = write(tmp_path / "ae.safetensors", b"weights")
    assert digest(digests, file) == WEIGHTS
    assert list(digests.known(look(file)).values()) == [WEIGHTS]
    assert Digests(blocked).known(look(file)) == {}


def test_only_the_newest_are_remembered(tmp_path):
    clock = later()
    memo = DigestMemo(tmp_path, clock=clock)
    memo.note({SeenFile("", f"/{number}", 1, 1, 1, 1, 1): WEIGHTS for number in range(MAX_ROWS)})
    clock.advance(10)
    newest = SeenFile("", "/newest", 1, 1, 1, 1, 1)
    memo.note({newest: WEIGHTS})
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        assert database.execute("SELECT count(*) FROM digests_2").fetchone() == (MAX_ROWS,)
    database.close()
    assert DigestMemo(tmp_path).find([newest]) == {newest: WEIGHTS}


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are Unicode there")
def test_a_name_that_is_no_unicode_is_remembered(digests, tmp_path):
    place = os.fsencode(tmp_path) + b"/m/\xff.safetensors"
    (tmp_path / "m").mkdir()
    with open(place, "wb") as file:  # noqa: PTH123 - a name that no Path can spell
        file.write(b"weights")
    files = look(tmp_path / "m")
    assert list((digests.hash(files) or {}).values()) == [WEIGHTS]
    assert list(Digests(tmp_path / "cache").known(files).values()) == [WEIGHTS]
    assert digest_of(files, digests.known(files)) is not None


def test_programs_may_remember_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    seen = [SeenFile("", f"/{number}", 1, 1, 1, 1, 1) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: DigestMemo(tmp_path, clock=time.time).note({each: WEIGHTS}), seen))
    assert len(DigestMemo(tmp_path).find(seen)) == 40
