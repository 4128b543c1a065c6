"""Small pictures of what is kept."""

from __future__ import annotations

import io
import threading
import time

import pytest
import requests

from zit_ext.codecs import Pixels, encode_png
from zit_ext.http.thumbnails import Thumbnails, shrunk

from .server import BOB, CHIEF, READER

pytestmark = pytest.mark.http


def thumbnail(served, key, query="", **headers):
    return served.get(f"/zit/v1/entries/{key}/thumbnail{query}", headers=headers)


def test_a_thumbnail_is_the_picture_made_small(served):
    pil = pytest.importorskip("PIL.Image", reason="it needs Pillow")
    large = encode_png(Pixels(512, 256, 3, bytes(512 * 256 * 3)))
    assert [pil.open(io.BytesIO(shrunk(large, size))).size for size in (128, 256)] == [(128, 64), (256, 128)]
    image = served.kept()

    answer = thumbnail(served, image["key"], "?size=128")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert pil.open(io.BytesIO(answer.content)).format == "WEBP"
    again = thumbnail(served, image["key"], "?size=128", **{"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["cache-control"] == "private, no-cache"
    for_ever = thumbnail(served, image["key"], f"?v={image['blob'][:16]}")
    assert for_ever.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert thumbnail(served, image["key"], "?size=64").status_code == 400
    assert thumbnail(served, "0" * 64).status_code == 404


def test_without_pillow_the_whole_picture_is_answered(served, monkeypatch):
    image = served.kept()
    monkeypatch.setattr("zit_ext.http.thumbnails.find_spec", lambda name: None)

    answer = thumbnail(served, image["key"])

    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{image["blob"]}"'
    assert answer.content == served.get(image["url"]).content


def test_a_gallery_that_is_drawn_keeps_nobody_else_waiting(served, monkeypatch):
    pytest.importorskip("PIL", reason="it needs Pillow")
    keys = [served.kept(seed=seed)["key"] for seed in range(36)]  # more than a loop has threads
    begun, go_on, answers = threading.Event(), threading.Event(), []

    def slow(data, size):
        begun.set()
        assert go_on.wait(30)
        return b"small"

    monkeypatch.setattr("zit_ext.http.thumbnails.shrunk", slow)

    def ask(key):
        answers.append(requests.get(f"{served.url}/zit/v1/entries/{key}/thumbnail", timeout=60).content)

    asking = [threading.Thread(target=ask, args=[key], daemon=True) for key in keys]
    for each in asking:
        each.start()
    assert begun.wait(20)
    time.sleep(0.5)

    assert served.get("/zit/v1/stats").json()["store"]["entries"] == 36

    go_on.set()
    for each in asking:
        each.join(30)
    assert answers == [b"small"] * 36


def test_a_thumbnail_of_another_namespace_is_not_there(guarded):
    key = guarded.kept(headers=BOB)["key"]

    assert thumbnail(guarded, key, **READER).status_code == 404
    assert thumbnail(guarded, key, **CHIEF).status_code == 200
    assert thumbnail(guarded, key).status_code == 401


def test_a_removed_entry_has_no_thumbnail(served):
    key = served.kept()["key"]
    assert thumbnail(served, key).status_code == 200
    served.client.delete(f"{served.url}/zit/v1/entries/{key}")
    assert thumbnail(served, key).status_code == 404


def test_a_damaged_picture_has_no_thumbnail_and_heals(served):
    pytest.importorskip("PIL", reason="it needs Pillow")
    image = served.kept()
    served.runtime.store.blob_file(image["blob"]).write_bytes(b"no picture")

    assert thumbnail(served, image["key"]).status_code == 404
    served.runtime.store.flush()
    assert served.get(f"/zit/v1/entries/{image['key']}").status_code == 404
    assert served.kept()["outcome"] == "miss"
    assert thumbnail(served, image["key"]).status_code == 200


def test_what_is_held_of_thumbnails_is_bounded(served):
    pytest.importorskip("PIL", reason="it needs Pillow")
    thumbnails = Thumbnails(max_bytes=3)
    for _ in range(2):
        thumbnails._hold("b" * 64, "128", b"12")
    assert (thumbnails._at_hand("b" * 64, "128"), thumbnails._bytes) == (b"12", 2)
    thumbnails = Thumbnails(max_bytes=1)
    thumbnails._hold("a" * 64, "128", b"12")
    assert thumbnails._at_hand("a" * 64, "128") is None
    assert thumbnails._bytes == 0
