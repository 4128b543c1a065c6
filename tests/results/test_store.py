"""What a store promises to the one program that has it open."""

from __future__ import annotations

import hashlib
import threading
import wave
from io import BytesIO
from pathlib import Path

import pytest

from zit_ext.codecs import SAFETENSORS, encode_png
from zit_ext.errors import StoreError, StoreFullError, StoreVersionError
from zit_ext.records import Encoded, ResultTier
from zit_ext.results.disk import Disk
from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
from zit_ext.tensors import Tensor, encode_tensors

from .making import asked, blob_file, bytes_on_disk, files_in, index_file, is_true, keep, kept, picture, there


@pytest.fixture(params=[0, 1], ids=["no_memory", "rows_remembered"])
def memory_bytes(request):
    """One byte holds no picture, and lets rows be remembered."""
    return request.param


def test_what_was_kept_is_found_to_the_bit(store):
    kept(store, 1)
    found = store.find(asked(1))
    is_true(found, 1)
    assert found.tier is ResultTier.DISK
    assert (found.entry.cost, found.entry.model, found.entry.namespace) == (2.0, "zit", "default")
    assert store.find(asked(2)) is None


def test_a_result_answers_before_it_is_written(make_store, folder):
    gate = threading.Event()

    class SlowDisk(Disk):
        def write_new(self, path, data, *, sync):
            gate.wait(30)
            super().write_new(path, data, sync=sync)

    store = make_store(disk=SlowDisk())
    keep(store, 1)
    found = store.find(asked(1))
    is_true(found, 1)
    assert found.tier is ResultTier.MEMORY
    assert store.peek(asked(1)) is not None
    assert files_in(folder / "blobs") == []
    gate.set()
    assert store.flush()
    assert store.find(asked(1)).tier is ResultTier.DISK


def test_a_full_queue_refuses_aloud_and_keeps_what_it_accepted(make_store, counted):
    gate, started = threading.Event(), threading.Event()

    class SlowDisk(Disk):
        def write_new(self, path, data, *, sync):
            started.set()
            gate.wait(30)
            super().write_new(path, data, sync=sync)

    store = make_store(disk=SlowDisk(), write_queue=2)
    keep(store, 1)
    keep(store, 2)
    with pytest.raises(StoreFullError, match="wait to be written"):
        keep(store, 3)
    assert counted["queue_full"] == 1
    gate.set()
    store.flush()
    assert there(store, 1, 2, 3) == [1, 2]


def test_closing_writes_what_waits_and_the_use_counts(make_store):
    store = make_store()
    for number in range(20):
        keep(store, number)
    store.find(asked(3))
    store.close()
    again = make_store()
    assert there(again, *range(20)) == list(range(20))
    assert again.entry(asked(3).key).entry.uses == 1


def test_hits_write_nothing_until_the_flush(make_store, folder):
    store = make_store()
    kept(store, 1)
    journal = Path(f"{index_file(folder)}-wal")
    before = journal.read_bytes()
    for _ in range(50):
        store.find(asked(1))
    assert journal.read_bytes() == before
    store.flush()
    assert journal.read_bytes() != before
    assert store.entry(asked(1).key).entry.uses == 50
    assert store.usage().hits == 50
    assert store.usage().saved_seconds == 100.0


@pytest.mark.parametrize("written_between", [False, True])
def test_seconds_that_another_hit_saved_already_are_taken_off(make_store, written_between):
    store = make_store()
    kept(store, 1)
    store.find(asked(1))
    store.find(asked(1))
    if written_between:
        store.flush()
    store.note_saved_before(asked(1).key, 1.5)
    store.flush()
    assert store.entry(asked(1).key).entry.uses == 2
    for usage in (store.usage(), store.usage("default")):
        assert (usage.hits, usage.saved_seconds) == (2, 2.5)


def test_memory_answers_the_second_time(make_store):
    make_store().close()
    first = make_store()
    kept(first, 1)
    store = make_store(memory_bytes=1_000_000)
    assert store.peek(asked(1)) is None
    assert store.find(asked(1)).tier is ResultTier.DISK
    found = store.peek(asked(1))
    assert found.tier is ResultTier.MEMORY
    is_true(found, 1)


def test_the_memory_tier_stays_under_its_cap(make_store):
    store = make_store(memory_bytes=30_000)
    kept(store, *range(40))
    for number in range(40):
        assert store.find(asked(number)) is not None
        assert store.usage().memory_bytes <= 30_000
    assert store.usage().memory_bytes > 15_000
    assert store.peek(asked(39)) is not None
    assert store.peek(asked(0)) is None


def test_a_removal_by_another_store_is_honoured_at_once_by_memory_too(make_store):
    store, other = make_store(memory_bytes=1_000_000), make_store()
    kept(store, 1, 2)
    assert store.peek(asked(1)) is not None
    assert other.remove([asked(1).key]) == 1
    assert store.peek(asked(1)) is None
    assert store.find(asked(1)) is None
    assert store.peek(asked(2)) is not None


def test_a_replacement_by_another_store_is_honoured_at_once_by_memory_too(make_store):
    store, other = make_store(memory_bytes=1_000_000), make_store()
    kept(store, 1)
    assert store.peek(asked(1)) is not None
    kept(other, 1, content=picture(99))
    assert store.peek(asked(1)) is None
    is_true(store.find(asked(1)), 99)


def test_equal_keys_with_other_fields_are_a_miss_and_counted(store, counted):
    kept(store, 1)
    forged = asked(2)
    forged = type(forged)(asked(1).key, forged.fields, forged.canonical)
    assert store.find(forged) is None
    assert counted["fields_differ"] == 1
    assert there(store, 1) == [1]


def test_a_second_result_takes_the_place_of_the_first(store, folder):
    kept(store, 1)
    kept(store, 1, content=picture(99))
    is_true(store.find(asked(1)), 99)
    assert store.usage().entries == 1
    assert len(files_in(folder / "blobs")) == 1


def test_a_shared_blob_counts_once_and_goes_with_its_last_entry(store, folder):
    same = picture(7)
    kept(store, 1, content=same)
    kept(store, 2, content=same)
    usage = store.usage()
    assert (usage.entries, len(files_in(folder / "blobs"))) == (2, 1)
    assert usage.bytes * 2 == usage.logical_bytes
    assert usage.bytes == bytes_on_disk(folder)
    store.remove([asked(1).key])
    assert store.find(asked(2)) is not None
    store.remove([asked(2).key])
    assert (files_in(folder / "blobs"), store.usage().bytes) == ([], 0)


def test_a_shared_blob_that_was_damaged_is_written_anew(store, folder):
    same = picture(7)
    kept(store, 1, content=same)
    blob_file(folder, store, 1).write_bytes(b"x")
    kept(store, 2, content=same)
    is_true(store.find(asked(2)), 7)
    is_true(store.find(asked(1)), 7)


@pytest.mark.parametrize("media_type", ["audio/wav", "text/plain", "application/octet-stream"])
def test_other_artifacts_are_kept_like_pictures(store, media_type):
    sound = BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(200)))
    content = Encoded(media_type, sound.getvalue())
    kept(store, 1, content=content)
    found = store.find(asked(1))
    assert found.content == content
    assert found.entry.content_digest == hashlib.sha256(content.data).hexdigest()
    assert found.entry.blob.media_type == media_type


def test_exact_tensors_are_kept_to_the_bit(store):
    numbers = bytes(range(48))
    content = Encoded(SAFETENSORS, encode_tensors({"image": Tensor("F32", (1, 2, 2, 3), numbers)}))
    kept(store, 1, content=content)
    assert store.find(asked(1)).content == content


def test_files_are_private_to_the_user(make_store, folder):
    store = make_store(durability="full")
    kept(store, 1)
    store.flush()
    modes = {path: path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    name = index_file(folder).name
    assert {name, f"{name}-wal", f"{name}-shm"} <= {path.name for path in modes}


def test_a_folder_with_spaces_and_letters_of_any_script_works(tmp_path):
    settings = Settings(cache_dir=tmp_path / "Мои картинки ü%20#?" / "キャッシュ", max_bytes=10_000_000)
    for _ in range(2):
        store = ResultStore(settings, score=lambda policy, entry, floor: 0.0)
        store.open()
        keep(store, 1)
        store.flush()
        is_true(store.find(asked(1)), 1)
        store.close()


def test_a_newer_index_is_left_alone(make_store, index, folder):
    make_store().close()
    index("PRAGMA user_version = 999")
    before = index_file(folder).read_bytes()
    with pytest.raises(StoreVersionError) as caught:
        make_store()
    assert (caught.value.found, index_file(folder).read_bytes()) == (999, before)


def test_a_folder_that_cannot_be_used_is_a_store_error(make_store, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(StoreError):
        make_store()


def test_doors_of_a_closed_store_say_so(make_store):
    store = make_store()
    store.close()
    store.close()
    for ask in (store.find, store.peek, store.try_claim, store.was_stale):
        with pytest.raises(StoreError, match="not open"):
            ask(asked(1))
    with pytest.raises(StoreError, match="not open"):
        keep(store, 1)
    with pytest.raises(StoreError, match="not open"):
        store.usage()


def test_a_store_can_be_opened_again(make_store):
    store = make_store()
    kept(store, 1)
    store.close()
    store.open()
    assert there(store, 1) == [1]
    store.close()


def test_many_threads_find_and_keep_at_once(make_store):
    store = make_store(memory_bytes=20_000, write_queue=1000)
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for number in range(start, start + 25):
                keep(store, number)
                for other in range(start, number + 1, 5):
                    answer = store.find(asked(other))
                    assert answer is not None
                    is_true(answer, other)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.flush()
    assert errors == []
    assert store.usage().entries == 70
    assert store.verify().problems == []


@pytest.mark.parametrize("durability", ["off", "normal", "full"])
def test_every_durability_keeps_and_finds(make_store, durability):
    store = make_store(durability=durability)
    kept(store, 1, 2)
    store.close()
    assert there(make_store(durability=durability), 1, 2) == [1, 2]


def test_equal_bytes_may_be_two_things(store, folder):
    pixels = picture(7)
    data = encode_png(pixels)
    things = {
        1: pixels,
        2: Encoded("image/png", data),
        3: Encoded("application/octet-stream", data),
    }
    for number, content in things.items():
        kept(store, number, content=content)
    assert len(files_in(folder / "blobs")) == 1
    found = {number: store.find(asked(number)) for number in things}
    assert all(each.content.data == data for each in found.values())
    assert [each.entry.blob.media_type for each in found.values()] == ["image/png"] * 2 + [
        "application/octet-stream"
    ]
    assert [each.entry.content_digest == pixels.digest for each in found.values()] == [True, False, False]
    assert store.verify().problems == []


def test_a_blob_that_comes_back_while_its_remains_are_doomed_has_its_own_size(make_store, index):
    store = make_store()
    data = b"come back"
    digest = hashlib.sha256(data).hexdigest()
    reservation = store._write(lambda desk: desk.room.reserve(digest, len(data), "default"))
    index(
        "INSERT INTO blobs (digest, size, checksum_kind, checksum, doomed) VALUES (?, 3, 'sha256', x'', 1)",
        bytes.fromhex(digest),
    )
    kept(store, 1, content=Encoded("text/plain", data))
    index("DELETE FROM reservations WHERE id = ?", reservation)
    assert store.find(asked(1)).content.data == data
    assert store.usage().bytes == len(data)
    assert store.verify().problems == []
