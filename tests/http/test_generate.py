"""`/zit/v1/generate` over loopback: what a client sees of hits, misses and everything between."""

from __future__ import annotations

import base64
import json
import threading
import time

import pytest

from zit_ext.codecs import decode_png

pytestmark = pytest.mark.http


def events(answer):
    """Return the events of a stream as (name, data) pairs."""
    found = []
    for block in answer.content.decode().strip().split("\n\n"):
        if block.startswith(":"):
            continue
        name, _, data = block.partition("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_the_second_time_it_is_a_hit_and_says_what_it_saved(served):
    first, second = served.generate(), served.generate()

    assert (first.status_code, first.json()["cached"]) == (200, False)
    assert first.headers["Cache-Status"].startswith("zit_ext; fwd=miss; stored")
    assert first.headers["X-Generation-Time-Saved"] == "0.000"
    assert second.json()["cached"] is True
    assert second.headers["Cache-Status"].startswith("zit_ext; hit")
    assert second.headers["X-Generation-Time-Saved"] == "1.000"
    assert first.headers["ETag"] == second.headers["ETag"] == f'"{second.json()["images"][0]["blob"]}"'


def test_the_url_of_the_answer_leads_to_the_picture(served):
    answer = served.generate().json()

    picture = served.get(answer["output_paths"][0])

    assert picture.status_code == 200
    assert picture.headers["Content-Type"] == "image/png"
    assert decode_png(picture.content).digest == answer["images"][0]["digest"]


def test_base64_is_the_same_picture(served):
    answer = served.generate(response_format="b64_json").json()

    data = base64.b64decode(answer["images"][0]["b64_json"])
    assert data == served.get(answer["output_paths"][0]).content


def test_a_batch_is_partly_hits(served):
    served.generate(seed=8)

    answer = served.generate(seed=7, n=3)

    assert [each["outcome"] for each in answer.json()["images"]] == ["miss", "hit", "miss"]
    assert answer.json()["cached"] is False
    assert answer.headers["Cache-Status"].count("zit_ext") == 3


def test_a_picture_by_get_has_an_etag_and_is_not_sent_twice(served):
    path = "/zit/v1/generate?prompt=a+fox&seed=7&width=256&height=256"
    first = served.get(path)

    again = served.get(path, headers={"If-None-Match": first.headers["ETag"]})

    assert first.content.startswith(b"\x89PNG")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Status"].startswith("zit_ext; hit")


def test_accept_image_answers_a_post_with_the_bytes(served):
    answer = served.generate(headers={"Accept": "image/png"})

    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def test_cache_control_decides_what_the_cache_does(served, pipeline):
    def outcome(word):
        return served.generate(headers={"Cache-Control": word}).json()["images"][0]["outcome"]

    served.generate()
    assert outcome("no-cache") == "miss"
    assert outcome("no-store") == "bypass"
    assert outcome("only-if-cached") == "hit"
    assert len(pipeline.rendered) == 3
    missing = served.generate("another", headers={"Cache-Control": "only-if-cached"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (504, "not_cached")
    assert len(pipeline.rendered) == 3


def test_a_browser_whose_own_cache_is_off_asks_for_no_new_render(served, pipeline):
    served.generate()
    reload = {"Cache-Control": "no-cache", "Pragma": "no-cache"}

    assert served.generate(headers=reload).json()["images"][0]["outcome"] == "hit"
    assert served.generate(headers=reload, cache="refresh").json()["images"][0]["outcome"] == "miss"
    assert len(pipeline.rendered) == 2


def test_what_must_not_be_stored_is_nowhere_to_be_fetched(served):
    image = served.generate(headers={"Cache-Control": "no-store"}).json()["images"][0]

    assert image["url"].startswith("data:image/png;base64,")
    assert served.get(f"/zit/blobs/{image['blob']}").status_code == 404


def test_a_seed_may_be_text_for_clients_whose_numbers_are_too_short(served):
    seed = 2**64 - 1
    assert served.generate(seed=str(seed)).json()["images"][0]["seed"] == seed
    assert served.generate(seed=seed).json()["cached"]
    assert served.generate(seed="7.5").status_code == 400


def test_a_random_seed_is_a_bypass_whose_url_works(served):
    image = served.generate(seed=-1).json()["images"][0]

    assert image["outcome"] == "bypass"
    assert image["seed"] >= 0
    assert served.get(image["url"]).status_code == 200


def test_a_stream_tells_each_step_and_ends_with_the_result(served, pipeline, monkeypatch):
    render = pipeline.render

    def slowly(*about):
        rendered = render(*about)
        time.sleep(1.0)  # decoding: a stream that is busy elsewhere has seen the last step by then
        return rendered

    monkeypatch.setattr(pipeline, "render", slowly)
    answer = served.generate(stream=True, steps=3)

    assert answer.headers["Content-Type"] == "text/event-stream"
    told = events(answer)
    assert told[0][0] == "begun"
    assert told[-1][0] == "result"
    assert told[-1][1]["images"][0]["outcome"] == "miss"
    assert told[-2] == ("step", {"image": 0, "done": 3, "total": 3})


def test_a_mistake_is_an_error_before_the_stream_begins(served):
    answer = served.generate(stream=True, width=500)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "width"


def test_an_error_while_it_renders_ends_the_stream(served, pipeline):
    pipeline.error = RuntimeError("secret words")

    told = events(served.generate(stream=True))

    assert told[-1][0] == "error"
    assert "secret" not in json.dumps(told)


def test_an_error_that_nobody_foresaw_says_nothing_about_itself(served, pipeline):
    pipeline.error = RuntimeError("secret words")

    answer = served.generate()

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 500}, "width"),
        ({"seed": "x"}, "seed"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"response_format": "gif"}, "response_format"),
        ({"promt": "a"}, "promt"),
        ({"image": "!!!"}, "image"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, "image"),
        ({"model": "/etc/passwd"}, "model"),
        ({"model": "../../secret"}, "model"),
        ({"model": {"source": ".."}}, "model"),
        ({"model": {"source": "a", "vae": "../ae"}}, "model.vae"),
        ({"loras": ["C:\\lora.safetensors"]}, "loras"),
        ({"loras": [{"source": "~/lora"}]}, "loras"),
    ],
)
def test_a_wrong_field_is_named(served, pipeline, fields, field):
    answer = served.generate(**fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
    assert pipeline.rendered == []


def test_a_client_that_leaves_stops_its_render(served, pipeline):
    pipeline.gate.clear()
    with pytest.raises(Exception, match=r"(?i)timed? ?out"):
        served.client.post(served.url + "/zit/v1/generate", json={"prompt": "a", "seed": 1}, timeout=0.5)

    for _ in range(100):
        if not served.service.board.running():
            break
        time.sleep(0.05)
    assert served.service.board.running() == []
    pipeline.gate.set()
    assert served.generate("a", seed=1).json()["images"][0]["outcome"] == "miss"
    assert len(pipeline.rendered) == 1


def test_a_render_goes_on_while_somebody_else_waits_for_it(served, pipeline):
    pipeline.gate.clear()
    answers = []
    other = threading.Thread(target=lambda: answers.append(served.generate("a", seed=1)))
    other.start()
    assert pipeline.started.wait(10)
    with pytest.raises(Exception, match=r"(?i)timed? ?out"):
        served.client.post(served.url + "/zit/v1/generate", json={"prompt": "a", "seed": 1}, timeout=0.5)
    pipeline.gate.set()
    other.join(20)

    assert answers[0].status_code == 200
    assert len(pipeline.rendered) == 1


def test_the_request_id_comes_back(served):
    assert served.get("/zit/v1/health", headers={"X-Request-Id": "abc.1"}).headers["X-Request-Id"] == "abc.1"
    assert served.get("/zit/v1/health", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"


def test_a_body_of_a_form_is_told_what_to_send_instead(served):
    answer = served.client.post(f"{served.url}/zit/v1/generate", data="prompt=x", timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_json")
    assert '{"field": value, ...}' in answer.json()["error"]["message"]
