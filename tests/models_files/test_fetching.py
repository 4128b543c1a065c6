"""A large file arrives whole and verified, or not at all, whatever the server does meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError
from zit_ext.models.fetching import CutOffError, Wanted, WrongBytesError, fetch

from .conftest import write
from .fake_hub import COMMIT, FakeHub

NAME = "vae/model.safetensors"
DATA = bytes(range(256)) * 20_000  # 5 MB: several blocks


@pytest.fixture
def target(tmp_path):
    return tmp_path / "模型" / "blobs" / "blob"


@pytest.fixture
def part(target):
    return target.with_name("blob.incomplete")


@pytest.fixture
def waits():
    return []


@pytest.fixture
def get(hub, target, waits):
    hub.files[NAME] = DATA

    def get(**changes):
        wanted = Wanted(
            changes.pop("url", f"{hub.address}/{hub.repo_id}/resolve/{COMMIT}/{NAME}"),
            changes.pop("size", len(DATA)),
            changes.pop("sha256", hashlib.sha256(DATA).hexdigest()),
            {"Authorization": "Bearer secret"},
        )
        fetch(wanted, target, **{"sleep": waits.append, **changes})

    return get


def test_the_file_arrives_whole_and_nothing_else_stays(get, target):
    arrived = []
    get(arrived=arrived.append)
    assert target.read_bytes() == DATA
    assert [each.name for each in target.parent.iterdir()] == ["blob"]
    assert arrived[0] == 0
    assert arrived[-1] == len(DATA)
    assert arrived == sorted(arrived)


def test_after_a_cut_it_goes_on_where_it_stopped(hub, get, target, waits):
    hub.cuts[NAME] = [2_000_000, 1_000_000]
    get()
    assert target.read_bytes() == DATA
    assert hub.ranges == [(NAME, "bytes=2000000-"), (NAME, "bytes=3000000-")]
    assert len(waits) == 2


def test_another_program_goes_on_where_the_first_one_ended(hub, get, target, part):
    write(part, DATA[:3_000_000])
    arrived = []
    get(arrived=arrived.append)
    assert target.read_bytes() == DATA
    assert arrived[0] == 3_000_000
    assert hub.ranges == [(NAME, "bytes=3000000-")]


def test_a_program_that_was_killed_in_the_middle_leaves_what_the_next_one_needs(hub, get, target, part):
    hub.files[NAME] = DATA
    hub.cuts[NAME] = [2_000_000]
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from zit_ext.models.fetching import Wanted, fetch
        url, size, digest, target = sys.argv[1:]
        def sleep(_seconds):
            print("cut", flush=True)
            time.sleep(60)
        fetch(Wanted(url, int(size), digest, {}), Path(target), sleep=sleep)
        """
    )
    url = f"{hub.address}/{hub.repo_id}/resolve/{COMMIT}/{NAME}"
    digest = hashlib.sha256(DATA).hexdigest()
    with subprocess.Popen(
        [sys.executable, "-c", program, url, str(len(DATA)), digest, str(target)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"},
    ) as child:
        assert child.stdout.readline().strip() == b"cut"
        child.send_signal(signal.SIGTERM) if os.name == "nt" else child.kill()
    assert not target.exists()
    there = part.stat().st_size
    assert there > 0
    get()
    assert target.read_bytes() == DATA
    assert hub.ranges == [(NAME, f"bytes={there}-")]


def test_a_server_that_ignores_where_to_begin_is_read_from_the_beginning(hub, get, target, part):
    hub.ranges_heeded = False
    write(part, DATA[:3_000_000])
    get()
    assert target.read_bytes() == DATA


def test_wrong_bytes_are_refused_and_nothing_is_kept(hub, get, target, part):
    hub.wrong[NAME] = DATA[:-1] + b"x"
    with pytest.raises(WrongBytesError, match="other bytes than promised"):
        get()
    assert not target.exists()
    assert not part.exists()
    assert hub.asked.total() == 1


def test_a_file_that_is_too_short_is_refused(hub, get, target, part):
    hub.wrong[NAME] = DATA[:-1]
    with pytest.raises(ModelError):
        get()
    assert not target.exists()


def test_a_file_that_is_too_long_is_refused(hub, get, target):
    hub.wrong[NAME] = b"x" + DATA
    with pytest.raises(WrongBytesError):
        get()
    assert not target.exists()


@pytest.mark.parametrize("kept", [b"x" * 1_000_000, b"x" * (len(DATA) + 5), b"x" * len(DATA)])
def test_wrong_bytes_from_an_earlier_time_are_fetched_again(get, target, part, kept):
    write(part, kept)
    get()
    assert target.read_bytes() == DATA


def test_all_bytes_from_an_earlier_time_are_not_fetched_again(hub, get, target, part):
    write(part, DATA)
    get()
    assert target.read_bytes() == DATA
    assert hub.asked.total() == 0


def test_to_stop_keeps_what_arrived(hub, get, target, part):
    arrived = []
    with pytest.raises(GenerationStoppedError):
        get(arrived=arrived.append, wants_stop=lambda: len(arrived) > 2)
    assert not target.exists()
    assert part.stat().st_size == arrived[-1] > 0
    get()
    assert target.read_bytes() == DATA


def test_a_server_that_sends_nothing_more_is_given_up_and_what_arrived_is_kept(hub, get, target, part, waits):
    hub.cuts[NAME] = [2_000_000, *[0] * 20]
    with pytest.raises(CutOffError, match="run the same again") as refused:
        get()
    assert "2,000,000 of 5,120,000" in str(refused.value)
    assert part.stat().st_size == 2_000_000
    assert len(waits) < 10
    assert waits == sorted(waits)


def test_one_byte_at_a_time_is_progress(hub, get, target):
    hub.cuts[NAME] = [1] * 20
    get()
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_has_no_time_is_asked_again(hub, get, target, waits, status):
    hub.status = status

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            hub.status = 200

    get(sleep=sleep)
    assert target.read_bytes() == DATA
    assert len(waits) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_server_that_refuses_is_asked_once(hub, get, target, waits, status):
    hub.status = status
    with pytest.raises(CutOffError, match=str(status)):
        get()
    assert not waits
    assert hub.asked.total() == 1


def test_a_server_that_is_not_there_is_given_up_after_a_few_tries(get, target, waits):
    with pytest.raises(CutOffError, match="could not be read further"):
        get(url="http://127.0.0.1:9/nothing")
    assert 3 < len(waits) < 10


def test_a_token_goes_to_its_own_server_only(hub, get, target):
    other = FakeHub()
    try:
        other.files[NAME] = DATA
        hub.elsewhere = other.address
        get()
        assert target.read_bytes() == DATA
        assert [token for _, token in hub.tokens] == ["Bearer secret"]
        assert [token for _, token in other.tokens] == [None]
    finally:
        other.close()


def test_a_place_that_cannot_be_written_to_is_named(get, target):
    write(target.parent, b"a file where the folder should be")
    with pytest.raises(ModelError, match="cannot be written"):
        get()


@pytest.mark.skipif(os.name == "nt", reason="limits of this kind are POSIX's")
@pytest.mark.parametrize("size", [100, 4096, 1_500_000])
def test_a_disk_that_takes_nothing_more_is_told(hub, get, target, part, size):
    import resource

    small = DATA[: size * 2]
    hub.files[NAME] = small
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(ModelError, match="free some space"):
            get(size=len(small), sha256=hashlib.sha256(small).hexdigest())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not target.exists()
    get(size=len(small), sha256=hashlib.sha256(small).hexdigest())
    assert target.read_bytes() == small


def test_an_empty_file_is_a_file_too(hub, get, target):
    hub.files[NAME] = b""
    get(size=0, sha256=hashlib.sha256(b"").hexdigest())
    assert target.read_bytes() == b""


def test_waits_grow_and_have_an_end(hub, get, waits):
    hub.status = 503
    started = time.monotonic()
    with pytest.raises(CutOffError):
        get()
    assert all(0 < each <= 30 for each in waits)
    assert time.monotonic() - started < 60  # nobody really slept
