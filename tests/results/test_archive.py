"""A warm cache can be shipped, and nothing that arrives is believed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import zipfile

import pytest

from zit_ext.errors import StoreError
from zit_ext.records import Encoded
from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings

from .making import asked, blob_file, keep, kept, lru, picture, there


@pytest.fixture
def elsewhere(tmp_path, clock):
    """A store on another machine, as it were."""
    store = ResultStore(
        Settings(cache_dir=tmp_path / "elsewhere", max_bytes=1_000_000, memory_bytes=0),
        score=lru,
        clock=clock,
    )
    store.open()
    yield store
    store.close()


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "warm cache ü.zip"


def rewrite(archive, change):
    """Write the archive anew, each member as `change(name, bytes)` says; None leaves it out."""
    with zipfile.ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in members.items():
            changed = change(name, data)
            if changed is not None:
                new.writestr(name, changed)


def relined(change):
    """Return a `rewrite` that changes what each entry's line says."""

    def rewriting(name, data):
        if name != "entries.jsonl":
            return data
        lines = [json.loads(line) for line in data.splitlines()]
        for line in lines:
            change(line)
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    return rewriting


def test_everything_arrives_to_the_bit(store, elsewhere, archive, clock):
    kept(store, 1, 2, 3)
    kept(store, 4, content=Encoded("audio/wav", b"RIFF and so on"), ttl_seconds=0)
    kept(store, 5, namespace="ann", cost=7.5, pinned=True)
    sent = store.export_to(archive)
    assert (sent.entries, sent.refused, archive.stat().st_mode & 0o777) == (5, [], 0o600)
    clock.advance(50)
    arrived = elsewhere.import_from(archive)
    assert (arrived.entries, arrived.bytes, arrived.refused) == (5, sent.bytes, [])
    assert there(elsewhere, 1, 2, 3) == [1, 2, 3]
    assert elsewhere.find(asked(4)).content.data == b"RIFF and so on"
    one, other = (each.entry(asked(5, namespace="ann").key) for each in (store, elsewhere))
    assert (other.entry.cost, other.entry.pinned, other.entry.namespace) == (7.5, True, "ann")
    assert (other.fields, other.entry.created_at) == (one.fields, one.entry.created_at)
    assert elsewhere.verify().problems == []


def test_entries_arrive_with_their_age(store, elsewhere, archive, clock):
    kept(store, 1, ttl_seconds=100)
    kept(store, 2, ttl_seconds=50)
    clock.advance(40)
    store.export_to(archive)
    clock.advance(20)
    assert elsewhere.import_from(archive).stale == 1
    assert there(elsewhere, 1, 2) == [1]
    clock.advance(39)
    assert there(elsewhere, 1) == [1]
    clock.advance(1)
    assert there(elsewhere, 1) == []


def test_what_is_there_already_stays(store, elsewhere, archive):
    kept(store, 1, 2)
    kept(elsewhere, 1)
    store.export_to(archive)
    report = elsewhere.import_from(archive)
    assert (report.entries, report.already_there) == (1, 1)
    assert elsewhere.import_from(archive).already_there == 2


def test_one_namespace_can_be_shipped(store, elsewhere, archive):
    kept(store, 1, namespace="ann")
    kept(store, 2, namespace="bob")
    assert store.export_to(archive, "ann").entries == 1
    elsewhere.import_from(archive)
    assert [entry.namespace for entry in elsewhere.entries()] == ["ann"]


def test_a_shared_blob_travels_once(store, elsewhere, archive):
    same = picture(7)
    kept(store, 1, content=same)
    kept(store, 2, content=same)
    assert store.export_to(archive).bytes == store.usage().bytes
    assert elsewhere.import_from(archive).entries == 2
    assert elsewhere.usage().bytes == store.usage().bytes


def test_silent_entries_stay_silent(make_store, elsewhere, archive):
    store = make_store(store_prompts=False)
    kept(store, 1)
    store.export_to(archive)
    assert b"lighthouse" not in archive.read_bytes()
    elsewhere.import_from(archive)
    assert there(elsewhere, 1) == [1]
    assert elsewhere.entry(asked(1).key).entry.prompt is None


def test_caps_hold_for_what_arrives(store, archive, tmp_path, clock):
    kept(store, *range(10))
    store.export_to(archive)
    small = ResultStore(
        Settings(cache_dir=tmp_path / "small", max_entries=3, max_bytes=100_000), score=lru, clock=clock
    )
    small.open()
    try:
        small.import_from(archive)
        assert small.usage().entries == 3
    finally:
        small.close()


def test_damaged_and_stale_entries_do_not_leave(store, folder, archive, clock):
    kept(store, 1, 2)
    kept(store, 3, ttl_seconds=10)
    clock.advance(11)
    blob_file(folder, store, 1).write_bytes(b"x")
    report = store.export_to(archive)
    assert (report.entries, report.stale) == (1, 1)
    assert [key for key, _ in report.refused] == [asked(1).key]


def _flipped(name, data):
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:] if name.startswith("blobs/") else data


LIES = {
    "the bytes of the blob": _flipped,
    "missing blob": lambda name, data: None if name.startswith("blobs/") else data,
    "another key": relined(lambda line: line.update(key="0" * 64)),
    "another digest of the picture": relined(lambda line: line.update(content_digest="0" * 64)),
    "another media type": relined(lambda line: line.update(media_type="application/x-safetensors")),
    "a media type that is none": relined(lambda line: line.update(media_type="image/png\r\nX-A: b")),
    "another size": relined(lambda line: line.update(size=line["size"] + 1)),
    "another namespace": relined(lambda line: line.update(namespace="other")),
    "a path for a digest": relined(lambda line: line.update(blob="../../../../etc/passwd")),
    "a path for a key": relined(lambda line: line.update(key="../" * 21 + "x")),
    "no fields": relined(lambda line: line.update(fields="")),
    "nonsense for fields": relined(lambda line: line.update(fields="!!!")),
    "no number": relined(lambda line: line.update(expires_at=float("nan"))),
    "text for a number": relined(lambda line: line.update(cost="much")),
    "a key left out": relined(lambda line: line.pop("model")),
    "a number beyond all numbers": relined(lambda line: line.update(created_at=10**400)),
    "no json": lambda name, data: b"{nope\n" if name == "entries.jsonl" else data,
    "a list": lambda name, data: b"[]\n" if name == "entries.jsonl" else data,
}


@pytest.mark.parametrize("lie", LIES)
def test_an_archive_that_lies_brings_nothing_in(store, elsewhere, archive, lie, tmp_path):
    kept(store, 1)
    store.export_to(archive)
    rewrite(archive, LIES[lie])
    report = elsewhere.import_from(archive)
    assert (report.entries, len(report.refused)) == (0, 1)
    assert (elsewhere.usage().entries, elsewhere.usage().bytes) == (0, 0)


def test_an_entry_is_of_the_medium_that_was_asked_for(store, elsewhere, archive):
    keep(store, 1, fingerprint=asked(1, media_type="image/png"))
    store.flush()
    store.export_to(archive)
    rewrite(archive, relined(lambda line: line.update(media_type="text/html")))
    assert elsewhere.import_from(archive).refused[0][1] == "the media_type is not that of the fields"


def test_one_bad_entry_does_not_keep_the_others_out(store, elsewhere, archive):
    kept(store, 1, 2, 3)
    store.export_to(archive)
    bad = store.entry(asked(2).key).entry.blob.digest
    rewrite(archive, lambda name, data: data[:-9] if name == f"blobs/{bad}" else data)
    assert elsewhere.import_from(archive).entries == 2
    assert there(elsewhere, 1, 2, 3) == [1, 3]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: archive.write_bytes(b"no zip"),
        lambda archive: archive.write_bytes(archive.read_bytes()[:-200]),
        lambda archive: rewrite(archive, lambda name, data: None if name == "zit-results.json" else data),
        lambda archive: rewrite(archive, lambda name, data: None if name == "entries.jsonl" else data),
        lambda archive: rewrite(archive, lambda name, data: data.replace(b'"version": 1', b'"version": 2')),
        lambda archive: rewrite(
            archive, lambda name, data: b"[" * 200_000 if name == "zit-results.json" else data
        ),
        lambda archive: archive.unlink(),
    ],
)
def test_what_is_no_archive_of_ours_is_a_store_error(store, elsewhere, archive, spoil):
    kept(store, 1)
    store.export_to(archive)
    spoil(archive)
    with pytest.raises(StoreError):
        elsewhere.import_from(archive)
    assert elsewhere.usage().entries == 0


def test_an_export_that_fails_leaves_no_half_archive(store, tmp_path):
    kept(store, 1)
    with pytest.raises(StoreError):
        store.export_to(tmp_path / "no such folder" / "x.zip")
    target = tmp_path / "taken.zip"
    target.mkdir()
    with pytest.raises(StoreError):
        store.export_to(target)
    shutil.rmtree(target)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("packed", ["blobs/", "entries.jsonl", "zit-results.json"])
def test_a_member_that_is_packed_is_not_unpacked(store, elsewhere, archive, packed):
    """It could be a thousand times as large as it looks: a few megabytes would fill the memory."""
    kept(store, 1)
    store.export_to(archive)
    with zipfile.ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in members.items():
            new.writestr(name, data, zipfile.ZIP_DEFLATED if name.startswith(packed) else zipfile.ZIP_STORED)
    if packed == "blobs/":
        assert ["packed" in why for _, why in elsewhere.import_from(archive).refused] == [True]
    else:
        with pytest.raises(StoreError):
            elsewhere.import_from(archive)
    assert elsewhere.usage().entries == 0


def test_an_archive_that_is_encrypted_brings_nothing_in(store, elsewhere, archive):
    kept(store, 1)
    store.export_to(archive)
    data = bytearray(archive.read_bytes())
    at = data.find(b"PK\1\2")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\1\2", at + 1)
    archive.write_bytes(data)
    with pytest.raises(StoreError):
        elsewhere.import_from(archive)


def test_no_flipped_byte_of_an_archive_is_more_than_a_store_error(store, elsewhere, archive):
    kept(store, 1, 2)
    store.export_to(archive)
    whole = archive.read_bytes()
    chance = random.Random(4)
    for _ in range(300):
        spoiled = bytearray(whole)
        spoiled[chance.choice([chance.randrange(len(whole)), -1 - chance.randrange(500)])] ^= (
            1 << chance.randrange(8)
        )
        archive.write_bytes(spoiled)
        with contextlib.suppress(StoreError):
            elsewhere.import_from(archive)
        there(elsewhere, 1, 2)


def test_exporting_while_others_write_ships_only_whole_entries(store, make_store, elsewhere, archive):
    kept(store, *range(20))
    writer = make_store()
    for number in range(20, 50):
        keep(writer, number)
    assert store.export_to(archive).refused == []
    assert elsewhere.import_from(archive).refused == []
    assert there(elsewhere, *range(20)) == list(range(20))
    assert elsewhere.verify().problems == []
