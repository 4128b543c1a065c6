"""What dashboards and hosts ask: entries, explanations, weights, plugins, the queue."""

from __future__ import annotations

import threading
import time

import pytest

from .server import ALICE, BOB, CHIEF, OWNER, READER

pytestmark = pytest.mark.http


def listed(served, query="", headers=None):
    answer = served.get(f"/zit/v1/entries{query}", headers=headers or {})
    assert answer.status_code == 200, answer.text
    return [each["prompt"] for each in answer.json()["entries"]]


def test_entries_are_listed_searched_filtered_and_paged(served):
    for seed in range(3):
        served.kept(f"fox {seed}", seed=seed)
    served.kept("a lighthouse")

    assert listed(served) == ["a lighthouse", "fox 2", "fox 1", "fox 0"]
    assert listed(served, "?prompt=FOX&order=oldest") == ["fox 0", "fox 1", "fox 2"]
    assert listed(served, "?pinned=true") == []
    page = served.get("/zit/v1/entries?limit=3&offset=2").json()
    assert ([each["prompt"] for each in page["entries"]], page["more"]) == (["fox 1", "fox 0"], False)
    assert served.get("/zit/v1/entries?limit=3").json()["more"] is True


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "offset=-1", "order=best", "pinned=yes", "min_bytes=x", "sort=a"]
)
def test_a_question_that_makes_no_sense_names_its_field(served, query):
    answer = served.get(f"/zit/v1/entries?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, query.partition("=")[0])


def test_one_entry_has_every_field_of_its_request(served):
    key = served.kept(seed=5)["key"]

    shown = served.get(f"/zit/v1/entries/{key}").json()

    assert shown["fields"]["seed"] == 5
    assert shown["prompt"] == "a lighthouse"
    assert served.get(shown["url"]).status_code == 200
    assert served.get(f"/zit/v1/entries/{'0' * 64}").status_code == 404
    assert served.get(f"/zit/v1/entries/{key[:20]}").status_code == 404


def test_entries_are_pinned_unpinned_and_removed(served):
    one, other = (served.kept(seed=seed) for seed in (1, 2))

    assert served.post("/zit/v1/entries/pin", {"keys": [one["key"]]}).json() == {"pinned": 1}
    assert served.get(f"/zit/v1/entries/{one['key']}").json()["pinned"] is True
    assert served.post("/zit/v1/entries/unpin", {"keys": [one["key"]]}).json() == {"unpinned": 1}
    assert served.client.delete(f"{served.url}/zit/v1/entries/{one['key']}").json() == {"removed": 1}
    assert served.get(f"/zit/blobs/{one['blob']}").status_code == 404
    assert served.post("/zit/v1/entries/remove", {"keys": [other["key"]]}).json() == {"removed": 1}
    assert listed(served) == []
    assert served.get(f"/zit/blobs/{other['blob']}").status_code == 404


def test_all_or_nothing_is_changed(served):
    key = served.kept()["key"]

    answer = served.post("/zit/v1/entries/remove", {"keys": [key, "0" * 64]})

    assert answer.status_code == 404
    assert listed(served) == ["a lighthouse"]
    assert served.post("/zit/v1/entries/remove", {"keys": []}).status_code == 400
    assert served.post("/zit/v1/entries/remove", {"keys": [key], "all": True}).status_code == 400


def test_clear_removes_what_is_stored_and_its_pictures(served):
    blob = served.kept()["blob"]

    assert served.post("/zit/v1/entries/clear", {}).json() == {"removed": 1}
    assert listed(served) == []
    assert served.get(f"/zit/blobs/{blob}").status_code == 404


def test_explain_says_which_field_made_it_miss(served):
    key = served.kept(seed=1)["key"]

    def explained(**fields):
        return served.post("/zit/v1/explain", {"prompt": "a lighthouse", "seed": 1, **fields}).json()

    assert (explained()["verdict"], explained()["key"]) == ("hit", key)
    miss = explained(seed=2, steps=4)
    assert miss["verdict"] == "miss"
    assert miss["nearest"]["key"] == key
    assert {name.rpartition(".")[2]: pair for name, pair in miss["differences"].items()} == {
        "seed": [2, 1],
        "steps": [4, 8],
    }
    assert explained(seed=-1)["verdict"] == "bypass"
    assert len(served.trial.rendered) == 1


def test_two_entries_are_compared(served):
    one, other = (served.kept(seed=seed)["key"] for seed in (1, 2))

    found = served.get(f"/zit/v1/entries/{one}/differences/{other}").json()["differences"]

    assert list(found.values()) == [[1, 2]]


def test_stats_say_what_was_saved(served):
    served.kept()
    served.kept()

    told = served.get("/zit/v1/stats").json()

    assert told["store"]["entries"] == 1
    assert told["engine"]["requests"] == {"miss": 1, "hit": 1}
    assert told["engine"]["hit_rate"] == 0.5
    assert told["engine"]["saved_seconds"] == 1.0


def test_a_namespace_without_entries_is_told_of_nobodys_hits(guarded):
    for _ in range(2):
        guarded.kept(headers=BOB)

    told = guarded.get("/zit/v1/stats", headers=ALICE).json()["store"]

    assert guarded.get("/zit/v1/stats", headers=BOB).json()["store"]["hits"] == 1
    assert (told["hits"], told["saved_seconds"], told["entries"]) == (0, 0.0, 0)


def test_a_namespace_sees_and_changes_only_what_is_its_own(guarded):
    mine, theirs = guarded.kept(headers=ALICE), guarded.kept(headers=BOB)
    key = theirs["key"]

    assert listed(guarded, headers=ALICE) == ["a lighthouse"]
    assert len(listed(guarded, headers=CHIEF)) == 2
    assert listed(guarded, "?namespace=bob", headers=CHIEF) == ["a lighthouse"]
    assert guarded.get("/zit/v1/entries?namespace=bob", headers=ALICE).status_code == 403
    assert guarded.get(f"/zit/v1/entries/{key}", headers=ALICE).status_code == 404
    path = f"/zit/v1/entries/{mine['key']}/differences/{key}"
    assert guarded.get(path, headers=ALICE).status_code == 404
    assert guarded.get(path, headers=CHIEF).status_code == 200
    assert "engine" not in guarded.get("/zit/v1/stats", headers=ALICE).json()
    guarded.runtime.store.blob_file(theirs["blob"]).write_bytes(b"no picture")
    guarded.runtime.store.suspect(theirs["blob"])
    guarded.runtime.store.flush()
    assert guarded.get("/zit/v1/stats", headers=CHIEF).json()["store"]["quarantined"] == 1
    assert guarded.get("/zit/v1/stats", headers=ALICE).json()["store"]["quarantined"] == 0
    assert guarded.get("/zit/v1/stats", headers=ALICE).json()["store"]["entries"] == 1
    miss = guarded.post("/zit/v1/explain", {"prompt": "a lighthouse", "seed": 9}, headers=READER)
    assert miss.status_code == 200
    assert miss.json()["nearest"]["key"] == mine["key"]


@pytest.mark.parametrize(
    "path",
    [
        "/zit/v1/entries/remove",
        "/zit/v1/entries/pin",
        "/zit/v1/entries/unpin",
        "/zit/v1/entries/clear",
        "/zit/v1/models/preload",
        "/zit/v1/models/unload",
    ],
)
def test_changes_need_a_token_with_admin(guarded, path):
    assert guarded.post(path, {}, headers=ALICE).status_code == 403
    assert guarded.post(path, {}).status_code == 401


def test_an_admin_of_one_namespace_cannot_clear_another(guarded):
    key = guarded.kept(headers=BOB)["key"]

    assert guarded.post("/zit/v1/entries/clear", {"namespace": "bob"}, headers=OWNER).status_code == 403
    assert guarded.post("/zit/v1/entries/clear", {}, headers=OWNER).json() == {"removed": 0}
    assert guarded.post("/zit/v1/entries/remove", {"keys": [key]}, headers=OWNER).status_code == 404
    assert guarded.client.delete(f"{guarded.url}/zit/v1/entries/{key}", headers=OWNER).status_code == 404
    assert listed(guarded, headers=BOB) == ["a lighthouse"]


def test_weights_are_loaded_shown_and_let_go(holding, tmp_path):
    served = holding(preload=str(tmp_path / "mine"))
    served.runtime.begin_preloading().result(20)
    told = served.get("/zit/v1/models")
    assert [each["name"] for each in told.json()["held"]] == ["mine"]
    assert str(tmp_path) not in told.text
    assert served.post("/zit/v1/models/unload", {"model": "mine"}).json() == {
        "unloaded": 1,
        "state": "unloaded",
    }
    assert served.get("/zit/v1/models").json()["held"] == []
    assert served.post("/zit/v1/models/preload", {"model": "mine"}).json() == {
        "loaded": True,
        "state": "loaded",
    }
    assert len(served.get("/zit/v1/models").json()["held"]) == 1
    assert served.post("/zit/v1/models/unload", {}).json()["unloaded"] == 1
    assert served.post("/zit/v1/models/preload", {"model": "../x"}).status_code == 400
    assert served.post("/zit/v1/models/preload", {}).status_code == 400


def test_weights_that_render_go_when_the_render_is_done_and_the_answer_says_so(holding):
    served = holding()
    pipeline = served.trial.pipeline
    pipeline.gate.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.generate("a fox")))
    asking.start()
    assert pipeline.started.wait(20)

    waits = served.post("/zit/v1/models/unload", {"model": "mine"})

    assert (waits.status_code, waits.json()) == (
        202,
        {"unloaded": 0, "state": "unloading when the render is done"},
    )
    assert not pipeline.closed
    pipeline.gate.set()
    asking.join(20)
    assert answers[0].status_code == 200
    for _ in range(200):
        if pipeline.closed:
            break
        time.sleep(0.05)
    assert served.get("/zit/v1/models").json()["held"] == []


def test_weights_that_have_to_wait_for_a_render_come_after_it_and_the_answer_says_so(holding, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"weights")
    served = holding(max_models=1, preload=(str(other),))
    assert served.generate("a fox", seed=1).status_code == 200
    pipeline = served.trial.pipeline
    pipeline.gate.clear()
    pipeline.started.clear()
    asking = threading.Thread(target=lambda: served.generate("a fox", seed=2))
    asking.start()
    assert pipeline.started.wait(20)

    waits = served.post("/zit/v1/models/preload", {"model": "other"})

    assert (waits.status_code, waits.json()) == (
        202,
        {"loaded": False, "state": "loading when the render is done"},
    )
    told = served.get("/zit/v1/models").json()
    assert told["waiting"] == ["other"]
    assert [each["name"] for each in told["held"]] == ["mine"]
    pipeline.gate.set()
    asking.join(20)
    for _ in range(400):
        told = served.get("/zit/v1/models").json()
        if ([each["name"] for each in told["held"]], told["waiting"]) == (["other"], []):
            break
        time.sleep(0.05)
    assert ([each["name"] for each in told["held"]], told["waiting"]) == (["other"], [])


def test_plugins_are_listed(served):
    told = served.get("/zit/v1/plugins").json()
    assert {"core", "eviction", "metrics"} <= {each["name"] for each in told["plugins"]}
    assert told["troubles"] == []


def test_the_queue_is_shown_and_one_of_it_stopped(served, pipeline):
    pipeline.gate.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.generate("a fox")))
    asking.start()
    assert pipeline.started.wait(10)

    (running,) = served.get("/zit/v1/queue").json()["running"]
    stopped = served.post(f"/zit/v1/queue/{running['number']}/stop")
    asking.join(20)

    assert running["prompt"] == "a fox"
    assert stopped.status_code == 200
    assert answers[0].status_code == 409
    assert served.post("/zit/v1/queue/999/stop").status_code == 404
    assert served.post("/zit/v1/queue/²/stop").status_code == 404
