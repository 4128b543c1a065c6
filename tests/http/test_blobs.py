"""Pictures by digest: immutable, ranged, verified, and only for those whose they are."""

from __future__ import annotations

import http.client
import time

import pytest

from zit_ext.http import blobs as module
from zit_ext.http import shelf

from .server import ALICE, BOB, CHIEF, READER

pytestmark = pytest.mark.http


@pytest.fixture
def kept(served):
    """The digest of a blob that is on disk, and nowhere in the server's memory."""
    digest = served.generate().json()["images"][0]["blob"]
    served.runtime.store.flush()
    served.service.shelf.clear(None)
    return digest


def test_a_blob_is_immutable_and_has_its_digest_as_etag(served, kept):
    answer = served.get(f"/zit/blobs/{kept}")

    assert answer.status_code == 200
    assert answer.headers["ETag"] == f'"{kept}"'
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Cache-Status"] == "zit_ext; hit"
    assert served.get(f"/zit/blobs/{kept}.png").content == answer.content


def test_a_blob_says_what_it_cost_to_render_wherever_it_comes_from(served, kept):
    def saved(status=200, **headers):
        answer = served.get(f"/zit/blobs/{kept}", headers=headers)
        assert answer.status_code == status
        return answer.headers["X-Generation-Time-Saved"]

    assert saved() == "1.000"  # from disk
    assert saved() == "1.000"  # from memory
    assert saved(206, Range="bytes=0-9") == "1.000"
    assert saved(304, **{"If-None-Match": "*"}) == "1.000"
    fresh = served.generate("another").json()["output_paths"][0]
    assert served.get(fresh).headers["X-Generation-Time-Saved"] == "1.000"  # before it is written
    bypassed = served.generate(seed=-1).json()["output_paths"][0]
    assert served.get(bypassed).headers["X-Generation-Time-Saved"] == "1.000"


def test_whoever_has_it_already_gets_no_bytes(served, kept):
    for given in (f'"{kept}"', f'W/"{kept}"', f'"other", "{kept}"', "*"):
        answer = served.get(f"/zit/blobs/{kept}", headers={"If-None-Match": given})
        assert (answer.status_code, answer.content) == (304, b"")
    assert served.get(f"/zit/blobs/{kept}", headers={"If-None-Match": '"x"'}).status_code == 200


def test_a_part_of_it_can_be_had(served, kept):
    whole = served.get(f"/zit/blobs/{kept}").content

    def part(text, **more):
        return served.get(f"/zit/blobs/{kept}", headers={"Range": text, **more})

    assert part("bytes=2-5").content == whole[2:6]
    assert part("bytes=2-5").status_code == 206
    assert part("bytes=2-5").headers["Content-Range"] == f"bytes 2-5/{len(whole)}"
    assert part("bytes=-3").content == whole[-3:]
    assert part("bytes=4-").content == whole[4:]
    assert part(f"bytes={len(whole)}-").status_code == 416
    assert part("bytes=5-2").status_code == part("bytes=0-1,3-4").status_code == 200
    assert part("bytes=2-5", **{"If-Range": '"other"'}).content == whole
    assert part("bytes=2-5", **{"If-Range": f'"{kept}"'}).content == whole[2:6]


def test_head_tells_the_size_and_sends_nothing(served, kept):
    whole = served.get(f"/zit/blobs/{kept}").content

    answer = served.client.head(f"{served.url}/zit/blobs/{kept}", timeout=10)

    assert (answer.headers["Content-Length"], answer.content) == (str(len(whole)), b"")


def test_large_blobs_are_sent_from_their_file(served, kept, monkeypatch):
    whole = served.get(f"/zit/blobs/{kept}").content
    served.service.shelf.clear(None)
    monkeypatch.setattr(module, "IN_MEMORY", 1)

    assert served.get(f"/zit/blobs/{kept}").content == whole
    assert served.get(f"/zit/blobs/{kept}", headers={"Range": "bytes=2-5"}).content == whole[2:6]
    assert served.client.head(f"{served.url}/zit/blobs/{kept}", timeout=10).status_code == 200
    assert served.service.shelf.held_bytes == 0


@pytest.mark.parametrize("in_memory", [1, 16_000_000])
def test_a_damaged_blob_is_never_sent(served, kept, monkeypatch, in_memory):
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    path = served.runtime.store.blob_file(kept)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    assert served.get(f"/zit/blobs/{kept}").status_code == 404
    served.runtime.store.flush()
    assert served.runtime.store.entries() == []


def test_what_was_removed_is_gone_from_memory_too(served, kept):
    assert served.get(f"/zit/blobs/{kept}").status_code == 200
    assert served.service.shelf.held_bytes > 0

    served.runtime.store.clear()
    time.sleep(2 * shelf.LOOK_SECONDS)

    assert served.get(f"/zit/blobs/{kept}").status_code == 404


def test_another_namespace_gets_nothing(guarded):
    fresh = guarded.generate(headers=ALICE).json()["images"][0]["blob"]

    def status(headers):
        return guarded.get(f"/zit/blobs/{fresh}", headers=headers).status_code

    for _ in ("fresh in memory", "from disk", "known in memory"):
        assert [status(each) for each in (BOB, ALICE, READER, CHIEF)] == [404, 200, 200, 200]
        guarded.runtime.store.flush()
        guarded.service.shelf.clear(None) if _ == "fresh in memory" else None


@pytest.mark.parametrize(
    "path",
    [
        "/zit/blobs/../../etc/passwd",
        "/zit/blobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/zit/blobs/..%5c..%5cx",
        "/zit/blobs/" + "A" * 64,
        "/zit/blobs/" + "0" * 64,
        "/zit/blobs/" + "0" * 63,
        "/zit/blobs/%00",
        "/zit/blobs/",
    ],
)
def test_nothing_else_is_reached_by_this_path(served, path):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", path)

    answer = connection.getresponse()

    assert answer.status == 404
    assert b"root:" not in answer.read()
    connection.close()
