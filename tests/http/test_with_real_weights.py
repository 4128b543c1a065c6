"""The whole way with the real pipeline and a tiny model: HTTP, engine, torch, store, and back."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from zit_ext.codecs import decode_png
from zit_ext.plugins import find_plugins
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings

from .server import Served

pytestmark = [pytest.mark.http, pytest.mark.pipeline]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    from zit_ext.models.tiny import build

    place: Path = tmp_path_factory.mktemp("real")
    settings = Settings(
        cache_dir=place / "cache", model=str(build(place / "tiny")), offline=True, renderer="local"
    )
    runtime = Runtime(settings, plugins=find_plugins(entry_points=False))
    served = Served(runtime)
    yield served
    served.close()
    runtime.close()


def ask(real, **options):
    answer = real.generate(width=64, height=64, steps=2, response_format="b64_json", **options)
    assert answer.status_code == 200, answer.text
    return answer.json()["images"][0]


def test_a_hit_over_http_is_what_a_new_render_would_give(real):
    first = ask(real)
    real.runtime.store.flush()
    hit = ask(real)
    anew = ask(real, headers={"Cache-Control": "no-store"})

    assert [each["outcome"] for each in (first, hit, anew)] == ["miss", "hit", "bypass"]
    assert first["digest"] == hit["digest"] == anew["digest"]
    assert decode_png(base64.b64decode(hit["b64_json"])).digest == hit["digest"]
    assert hit["saved_seconds"] > 0
    assert hit["b64_json"] == base64.b64encode(real.get(f"/zit/blobs/{hit['blob']}").content).decode()


def test_a_real_render_tells_its_steps(real):
    answer = real.generate("another", width=64, height=64, steps=2, stream=True, previews=True)

    text = answer.content.decode()
    assert '"done": 2, "total": 2' in text
    assert text.index("event: step") < text.index("event: result")


def test_a_picture_can_start_from_one_that_was_sent(real):
    picture = ask(real)["b64_json"]

    again = ask(real, image=picture, strength=0.5)

    assert again["digest"] != ask(real)["digest"]


def test_a_picture_that_cannot_be_decoded_is_the_clients_mistake(real):
    broken = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 50).decode()

    answer = real.generate(width=64, height=64, steps=2, image=broken)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "image"
