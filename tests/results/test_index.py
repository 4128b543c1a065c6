"""The index itself: migrations, counters, locks, and machines that lack the fast checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zit_ext.errors import StoreError, StoreVersionError
from zit_ext.results import checksums
from zit_ext.results.counters import COUNTERS
from zit_ext.results.network_folders import network_file_system
from zit_ext.results.owners import Owner, exclusive, is_alive
from zit_ext.results.schema import MIGRATIONS, migrate, version_of

from .making import asked, index_file, keep, kept, picture, there

ROOT = Path(__file__).parents[2]


@pytest.fixture
def db(tmp_path):
    connection = sqlite3.connect(tmp_path / "some.sqlite3", isolation_level=None)
    yield connection
    connection.close()


def test_a_store_of_an_older_version_is_migrated_with_everything_in_it(make_store, index, folder):
    store = make_store()
    kept(store, 1, 2)
    store.close()
    db = sqlite3.connect(Path(index("SELECT file FROM pragma_database_list")[0][0]), isolation_level=None)
    try:
        newer = (*MIGRATIONS, "ALTER TABLE entries ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';")
        migrate(db, newer)
        assert version_of(db) == len(newer)
        assert db.execute("SELECT mood, count(*) FROM entries").fetchall() == [("calm", 2)]
        migrate(db, newer)
        with pytest.raises(StoreVersionError):
            migrate(db)
    finally:
        db.close()


def test_a_migration_that_fails_changes_nothing(db):
    migrate(db)
    before = list(db.iterdump())
    with pytest.raises(sqlite3.Error):
        migrate(db, (*MIGRATIONS, "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);"))
    assert (version_of(db), list(db.iterdump())) == (len(MIGRATIONS), before)


def test_stores_that_open_at_once_make_one_index(make_store, folder):
    stores, errors = [], []

    def open_one():
        try:
            stores.append(make_store())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(folder.glob("index-*.sqlite3"))) == 1
    kept(stores[0], 1)
    assert all(there(store, 1) == [1] for store in stores)


def test_everything_that_is_counted_has_a_name_and_a_meaning():
    source = "".join(path.read_text() for path in (ROOT / "zit_ext" / "results").glob("*.py"))
    counted = set(re.findall(r'count\("(\w+)"\)', source))
    assert {"corrupt", "dropped", "orphan"} <= counted
    assert counted <= set(COUNTERS)
    for name in COUNTERS:
        assert source.count(f'"{name}"') >= 2, f"{name} is never counted"


def test_a_lock_goes_with_its_owner(tmp_path):
    one = Owner(tmp_path)
    other = Owner(tmp_path)
    assert one.others()
    assert one.is_alive(other.token)
    os.close(other._descriptor)  # as the system does for a process that dies
    assert not one.is_alive(other.token)
    assert not one.others()
    assert one.bury_the_dead() == [other.token]
    assert not is_alive(tmp_path, "../" + one.token)
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_released_is_an_error_and_no_wait_for_ever(tmp_path):
    with (
        exclusive(tmp_path / "lock"),
        pytest.raises(StoreError, match="has held"),
        exclusive(tmp_path / "lock", patience=0.05),
    ):
        pass
    with exclusive(tmp_path / "lock", patience=0.05):
        pass


PROGRAM = """
import json, sys
if {without}: sys.modules["xxhash"] = None
from results.making import asked, is_true, keep, lru, picture
from zit_ext.results import checksums
from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
settings = Settings().with_values({{"cache_dir": sys.argv[1], "memory_bytes": 0}}, "test")
store = ResultStore(settings, score=lru)
store.open()
found = []
for number in range(4):
    answer = store.find(asked(number))
    if answer is not None:
        is_true(answer, 0)
        found.append(number)
keep(store, {number}, content=picture(0))
store.close()
print(json.dumps([checksums.KIND, found]))
"""


def test_machines_with_and_without_the_fast_checksum_share_a_store(tmp_path):
    pytest.importorskip("xxhash")
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))

    def run(*, without, number):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(without=without, number=number), tmp_path],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return json.loads(done.stdout)

    assert run(without=False, number=0) == ["xxh3_128", []]
    assert run(without=True, number=1) == ["sha256", [0]]
    assert run(without=False, number=2) == ["xxh3_128", [0, 1]]


def test_a_checksum_of_an_unknown_kind_is_verified_by_the_digest():
    data = picture(1).data
    digest = hashlib.sha256(data).hexdigest()
    for kind in ("sha256", "kind of the future"):
        assert checksums.matches(data, kind, b"", digest)
        assert not checksums.matches(data[:-1], kind, b"", digest)
    assert checksums.matches(data, checksums.KIND, checksums.checksum(data), digest)
    assert not checksums.matches(data[:-1], checksums.KIND, checksums.checksum(data), digest)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/team rw,relatime shared:2 - nfs4 server:/x rw
41 40 8:2 / /mnt/team/local rw shared:3 - xfs /dev/sdb1 rw
42 22 0:36 / /mnt/with\\040space rw - cifs //server/y rw
43 22 0:37 / /mnt/büro/キャッシュ rw - nfs server:/z rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/.cache", None),
        ("/mnt/team/cache", "nfs4"),
        ("/mnt/team/local/cache", None),
        ("/mnt/teammate", None),
        ("/mnt/with space/cache", "cifs"),
        ("/mnt/büro/キャッシュ/cache", "nfs"),
    ],
)
def test_a_network_file_system_is_told_from_a_local_one(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert network_file_system(Path(path), mounts) == kind
    assert network_file_system(Path(path), tmp_path / "no such file") is None


def test_pruning_gives_the_space_of_the_index_back(make_store, folder):
    store = make_store(max_entries=0)
    for start in range(0, 400, 20):
        for number in range(start, start + 20):
            keep(store, number, prompt="long " * 400)
        store.flush()
    store._write(lambda desk: desk.upkeep.give_space_back())
    large = sum(path.stat().st_size for path in folder.glob("index-*"))
    store.clear()
    store.prune()
    assert sum(path.stat().st_size for path in folder.glob("index-*")) < large / 2


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE entries ADD COLUMN mood TEXT;",
        "ALTER TABLE entries RENAME COLUMN uses TO times;",
        "DROP TABLE details;",
    ],
)
def test_an_index_that_a_newer_version_migrated_under_us_is_left_alone(make_store, index, folder, migration):
    store = make_store()
    kept(store, 1, 2)
    there(store, 1)
    path = index_file(folder)
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, (*MIGRATIONS, migration))
    before = db.execute("SELECT count(*) FROM entries").fetchone()
    for number in (3, 4):
        with contextlib.suppress(StoreError):
            store.find(asked(number - 2))
        with contextlib.suppress(StoreError):
            keep(store, number)
            store.flush()
    assert index_file(folder) == path
    assert db.execute("SELECT count(*) FROM entries").fetchone() == before
    assert version_of(db) == len(MIGRATIONS) + 1
    db.close()
    with contextlib.suppress(StoreError):
        store.close()
