"""The audit: an entry is rendered again, and said to be the same to the bit, or where it is not."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from zit_ext import testing
from zit_ext.codecs import Pixels, decode_png
from zit_ext.fingerprint import fingerprint
from zit_ext.picture_differences import differences
from zit_ext.records import CacheMode, Encoded

from .server import ALICE, BOB, CHIEF, OWNER, READER

pytestmark = pytest.mark.http


@pytest.fixture(autouse=True)
def truthful(monkeypatch):
    """Have the fake weights draw what the request asks for, whatever it wants of the cache."""
    drawn = testing.fake_content
    monkeypatch.setattr(
        testing,
        "fake_content",
        lambda request, salt=0: drawn(replace(request, cache=CacheMode.USE, ttl_seconds=None), salt),
    )


def audited(served, key, **headers):
    answer = served.post(f"/zit/v1/entries/{key}/audit", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_entry_that_renders_the_same_again_is_identical(served):
    image = served.kept()

    told = audited(served, image["key"])

    assert (told["auditable"], told["identical"], told["why"]) == (True, True, None)
    assert (told["differing_pixels"], told["largest_difference"], told["difference"]) == (0, 0, None)
    assert told["seconds"] == 1.0
    assert served.get(told["rendered"]).content == served.get(image["url"]).content
    assert len(served.trial.rendered) == 2
    assert served.get("/zit/v1/stats").json()["store"]["entries"] == 1  # the new one is not kept


def test_an_audit_is_counted_as_one_and_not_as_a_bypass_that_somebody_asked_for(served):
    image = served.kept()
    audited(served, image["key"])

    assert served.runtime.metrics.snapshot().bypass_reasons == {"audit": 1}
    assert served.get("/zit/v1/answers?limit=1").json()["answers"][0]["reason"] == "audit"


def test_a_client_asks_for_no_audit_where_nothing_would_be_compared(served, pipeline):
    answer = served.generate(cache="audit")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "cache")
    assert "/zit/v1/entries/KEY/audit" in answer.json()["error"]["message"]
    assert pipeline.rendered == []


def test_an_entry_that_renders_otherwise_shows_where(served, pipeline):
    image = served.kept()
    pipeline.salt = 1

    told = audited(served, image["key"])

    assert (told["auditable"], told["identical"]) == (True, False)
    stored = decode_png(served.get(image["url"]).content)
    rendered = decode_png(served.get(told["rendered"]).content)
    shown = decode_png(served.get(told["difference"]).content)
    apart = [abs(a - b) for a, b in zip(stored.data, rendered.data, strict=True)]
    assert told["largest_difference"] == max(apart) > 0
    assert told["differing_pixels"] == sum(any(apart[at : at + 3]) for at in range(0, len(apart), 3))
    assert [value > 0 for value in shown.data] == [value > 0 for value in apart]
    assert rendered.digest[:12] in told["why"]


def test_what_changed_since_cannot_be_audited_and_is_not_rendered(served):
    key = served.kept()["key"]
    model = served.runtime.settings.model
    served.trial.files.replace(model, "other weights")

    told = audited(served, key)

    assert (told["auditable"], told["identical"]) == (False, False)
    assert "model" in told["why"]
    assert len(served.trial.rendered) == 1


def test_an_entry_of_other_settings_is_not_rendered_under_these(serving):
    key = serving().kept()["key"]
    served = serving(vae_tiling=True)

    told = audited(served, key)

    assert told["auditable"] is False
    assert "vae_tiling" in told["why"]
    assert served.trial.rendered == []


def test_an_entry_without_its_prompt_cannot_be_audited(serving):
    served = serving(store_prompts=False)
    told = audited(served, served.kept()["key"])
    assert (told["auditable"], told["why"]) == (False, "its prompt is not stored")


def test_what_was_made_from_no_request_cannot_be_audited(served):
    known = fingerprint({"node": "KSampler", "inputs": {"a": 1}, "environment": "test"})
    content = Encoded("text/plain", b"tensors")
    served.runtime.store.keep(known, content, namespace="default", cost=1.0, ttl_seconds=None)
    served.runtime.store.flush()

    told = audited(served, known.key)

    assert (told["auditable"], told["identical"]) == (False, False)
    assert "not made from a request" in told["why"]
    thumbnail = served.get(f"/zit/v1/entries/{known.key}/thumbnail")
    assert (thumbnail.status_code, thumbnail.json()["error"]["code"]) == (404, "no_picture")


def test_an_audit_stands_in_the_queue_and_can_be_stopped(served, pipeline):
    key = served.kept()["key"]
    pipeline.gate.clear()
    pipeline.started.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.post(f"/zit/v1/entries/{key}/audit")))
    asking.start()
    assert pipeline.started.wait(10)
    (running,) = served.get("/zit/v1/queue").json()["running"]
    assert served.post(f"/zit/v1/queue/{running['number']}/stop").status_code == 200
    asking.join(20)
    assert answers[0].status_code == 409


def test_an_audit_needs_admin_and_an_entry_that_the_caller_may_see(guarded):
    key = guarded.kept(headers=BOB)["key"]
    path = f"/zit/v1/entries/{key}/audit"

    assert guarded.post(path).status_code == 401
    assert guarded.post(path, headers=READER).status_code == 403
    assert guarded.post(path, headers=ALICE).status_code == 403
    assert audited(guarded, key, **CHIEF)["identical"] is True
    assert guarded.post(f"/zit/v1/entries/{'0' * 64}/audit", headers=CHIEF).status_code == 404


def test_an_admin_of_one_namespace_cannot_audit_another(guarded):
    theirs, mine = guarded.kept(headers=BOB)["key"], guarded.kept(headers=ALICE)["key"]

    assert guarded.post(f"/zit/v1/entries/{theirs}/audit", headers=OWNER).status_code == 404
    told = audited(guarded, mine, **OWNER)
    assert told["identical"] is True
    assert guarded.get(told["rendered"], headers=OWNER).status_code == 200
    assert guarded.get(told["rendered"], headers=BOB).status_code == 404


def test_a_damaged_blob_is_no_difference_that_anybody_sees(served, pipeline):
    image = served.kept()
    served.runtime.store.blob_file(image["blob"]).write_bytes(b"no picture")
    pipeline.salt = 1

    told = audited(served, image["key"])

    assert (told["identical"], told["differing_pixels"], told["difference"]) == (False, None, None)


def test_pictures_of_unlike_shapes_differ_everywhere():
    found = differences(Pixels(2, 2, 3, bytes(12)), Pixels(3, 1, 3, bytes(9)))
    assert (found.pixels, found.largest, found.picture) == (4, 255, None)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_difference_of_one_is_to_be_seen(channels):
    one = Pixels(3, 2, channels, bytes([100] * 6 * channels))
    data = bytearray(one.data)
    data[channels] += 1
    found = differences(one, Pixels(3, 2, channels, bytes(data)))

    assert (found.pixels, found.largest) == (1, 1)
    assert found.picture is not None
    colour = channels - 1 if channels in (2, 4) else channels
    shown = [found.picture.data[at : at + colour] for at in range(0, 6 * channels, channels)]
    assert [any(pixel) for pixel in shown] == [False, True, False, False, False, False]
    assert max(shown[1]) >= 48
