"""Our HTTP API on the real host's own server, and what the host's page is told over its websocket."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from .host import Host
from .test_cache_any import cached, run, run_again, slow
from .test_generate import render


def asked(**changes: Any) -> dict[str, Any]:
    """What a client posts for one picture of the model of the settings, the tiny one."""
    return {"prompt": "over HTTP", "seed": 3, "width": 64, "height": 64, "steps": 4, **changes}


def generate(host: Host, **changes: Any) -> dict[str, Any]:
    status, answer = host.ask("/zit/v1/generate", asked(**changes))
    assert status == 200, answer
    return dict(json.loads(answer))


def test_the_api_answers_on_the_hosts_own_server(host):
    assert host.get("/zit/v1/health")["status"] == "ok"
    assert "entries" in host.get("/zit/v1/stats")["store"]
    assert host.ask("/zit/v1/no-such-thing")[0] == 404


def test_pages_of_other_sites_may_not_ask(host):
    assert host.ask("/zit/v1/stats", headers={"Origin": "http://evil.example"})[0] == 403
    assert host.ask("/zit/v1/stats", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert host.ask("/zit/v1/stats", headers={"Origin": host.url})[0] == 200
    status, said = host.ask("/zit/v1/stats", headers={"Host": "rebound.example"})
    assert status == 403
    assert b"http_hosts" in said


def test_a_body_that_is_too_large_and_a_path_in_the_place_of_a_name_are_refused(host, tiny_model):
    status, _ = host.ask("/zit/v1/generate", b" " * 40_000_000)
    assert status == 413
    status, said = host.ask("/zit/v1/generate", asked(model=tiny_model))
    assert status == 400
    assert b"not by a path" in said


def test_what_is_asked_over_http_waits_in_the_hosts_queue_and_a_hit_does_not(host, tiny_model):
    first = generate(host, seed=31)
    assert first["images"][0]["outcome"] == "miss"

    def rendered_in_queue() -> int:
        ran = [each["prompt"][2] for each in host.get("/history").values()]
        return sum(node["class_type"] == "ZitQueued" for graph in ran for node in graph.values())

    wait_until(lambda: rendered_in_queue() == 1)  # the answer may come before the host has written it down
    done = host.get("/history")

    again = generate(host, seed=31)
    assert again["cached"]
    assert again["images"][0]["digest"] == first["images"][0]["digest"]
    assert len(host.get("/history")) == len(done)

    in_graph = render(host, tiny_model, prompt="over HTTP", seed=31)
    assert "hit" in in_graph.texts("1")[0]


def test_what_the_user_takes_out_of_the_queue_is_refused(host):
    answers: list[tuple[int, bytes]] = []

    def ask() -> None:
        answers.append(host.ask("/zit/v1/generate", asked(prompt="taken out", steps=4)))

    blocked = threading.Thread(target=lambda: host.run(slow_graph(6.0)))
    blocked.start()
    wait_until(lambda: host.get("/queue")["queue_running"])
    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: host.get("/queue")["queue_pending"])
    host.post("/queue", {"clear": True})
    asking.join(30)
    host.post("/interrupt", {})
    blocked.join(60)
    status, said = answers[0]
    assert status == 409
    assert b"taken out of ComfyUI's queue" in said


def test_an_interrupt_of_the_host_stops_what_was_asked_over_http(host):
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(
        target=lambda: answers.append(host.ask("/zit/v1/generate", asked(prompt="interrupted", steps=1000)))
    )
    asking.start()
    wait_until(lambda: host.get("/queue")["queue_running"])
    time.sleep(0.5)
    host.post("/interrupt", {})
    asking.join(60)
    assert answers[0][0] == 409
    assert host.get("/zit/v1/queue")["running"] == []


def test_weights_are_loaded_and_let_go_of_over_http(host):
    (name,) = host.get("/zit/v1/models")["names"]
    host.post("/zit/v1/models/preload", {"model": name})
    assert [held["name"] for held in host.get("/zit/v1/models")["held"]] == [name]
    status, said = host.ask("/zit/v1/models/unload", {})
    assert (status, json.loads(said)) == (200, {"unloaded": 1, "state": "unloaded"})


def test_weights_that_wait_for_a_prompt_are_loaded_after_it_and_the_answer_says_so(host):
    (name,) = host.get("/zit/v1/models")["names"]
    host.post("/zit/v1/models/unload", {})
    host.post("/prompt", {"prompt": slow_graph(12.0)})
    wait_until(lambda: host.get("/queue")["queue_running"])

    status, said = host.ask("/zit/v1/models/preload", {"model": name})

    assert (status, json.loads(said)) == (202, {"loaded": False, "state": "loading when its turn has come"})
    assert host.get("/zit/v1/models")["held"] == []
    wait_until(lambda: not host.get("/queue")["queue_pending"])
    wait_until(lambda: host.get("/zit/v1/models")["held"])


def test_the_page_is_told_which_nodes_were_answered_from_the_cache(host, tiny_model):
    def told(events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, int, int]]:
        return [(data["node"], data["hits"], data["of"]) for kind, data in events if kind == "zit.answered"]

    assert told(render(host, tiny_model, prompt="told", seed=1).events) == [("1", 0, 1)]
    both = render(host, tiny_model, prompt="told", seed=1, batch_size=2)
    assert told(both.events) == [("1", 1, 2)]

    graph = cached(slow(0.15625))
    assert told(run(host, graph).events) == []
    assert told(run_again(host, graph).events) == [("memo", 1, 1)]


def slow_graph(seconds: float) -> dict[str, Any]:
    graph = cached(slow(seconds / 64))
    graph["1"]["inputs"]["seconds"] = seconds
    return graph


def wait_until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
