"""What a page that is open is told: history, the latest answers, events as they happen, health."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time

import pytest

from zit_ext.history.database import HistoryFile
from zit_ext.http import events

from .server import ALICE, BOB, CHIEF, READER

pytestmark = pytest.mark.http


class Listener:
    """Reads a stream of events in a thread of its own."""

    def __init__(self, served, headers=None, query=""):
        self.heard: list[tuple[str, object]] = []
        self.lines: list[str] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        self._connection.request("GET", f"/zit/v1/events{query}", headers=headers or {})
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        assert self._answer.headers["content-type"] == "text/event-stream"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        name = None
        with contextlib.suppress(OSError, http.client.HTTPException):  # the stream was closed under us
            while line := self._answer.readline():
                text = line.decode().rstrip("\n")
                self.lines.append(text)
                if text.startswith("event: "):
                    name = text[7:]
                elif text.startswith("data: "):
                    self.heard.append((name, json.loads(text[6:])))

    def wait_for(self, name, fits=lambda value: True, seconds=20.0):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for heard, value in list(self.heard):
                if heard == name and fits(value):
                    return value
            time.sleep(0.02)
        raise AssertionError(f"no {name} that fits in {self.heard}")

    def ended(self, seconds=20.0):
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self):
        with contextlib.suppress(OSError, AttributeError):  # the server closed it first
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        assert self.ended()
        self._answer.close()
        self._connection.close()


@pytest.fixture
def listen():
    opened: list[Listener] = []

    def start(*args, **more):
        opened.append(Listener(*args, **more))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


# The latest answers


def test_the_latest_answers_say_what_became_of_each_request_and_why(served):
    served.kept(seed=1)
    served.generate(seed=1, headers={"X-Request-Id": "my-own-id"})
    served.generate(seed=-1)

    bypass, hit, miss = served.get("/zit/v1/answers").json()["answers"]

    assert (miss["outcome"], miss["reason"], miss["stored"], miss["tier"]) == (
        "miss",
        "new_environment",
        True,
        "render",
    )
    assert (hit["outcome"], hit["reason"], hit["key"], hit["tier"]) == ("hit", None, miss["key"], "memory")
    assert (bypass["outcome"], bypass["reason"]) == ("bypass", "seed")
    assert hit["request_id"] == "my-own-id"
    assert hit["saved_seconds"] == 1.0
    assert miss["render_seconds"] == 1.0
    assert miss["prompt"] == "a lighthouse"
    assert served.get(f"/zit/blobs/{hit['digest']}").status_code == 200
    assert len(served.get("/zit/v1/answers?limit=1").json()["answers"]) == 1
    assert served.get("/zit/v1/answers?limit=0").status_code == 400


def test_where_no_prompts_are_kept_none_are_told(serving):
    served = serving(store_prompts=False)
    served.kept("a secret")

    assert served.get("/zit/v1/answers").json()["answers"][0]["prompt"] is None
    assert "secret" not in served.get("/zit/v1/answers").text


def test_a_namespace_is_told_of_its_own_answers_only(guarded):
    guarded.kept("a fox", headers=ALICE)
    guarded.kept("a secret owl", headers=BOB)

    def told(headers, query=""):
        answer = guarded.get(f"/zit/v1/answers{query}", headers=headers)
        return [each["prompt"] for each in answer.json()["answers"]]

    assert told(READER) == ["a fox"]
    assert told(CHIEF) == ["a secret owl", "a fox"]
    assert told(CHIEF, "?namespace=bob") == ["a secret owl"]
    assert guarded.get("/zit/v1/answers?namespace=bob", headers=READER).status_code == 403
    assert guarded.get("/zit/v1/answers").status_code == 401


# History


def test_history_survives_a_restart(serving):
    for _ in range(2):
        served = serving()
        served.kept()
        served.kept(seed=8)
        told = served.get("/zit/v1/history?hours=1").json()
        served.close()
        served.trial.close()

    def total(name):
        return sum(bucket[name] for bucket in told["buckets"])

    assert (total("hit"), total("miss")) == (2, 2)
    assert told["step"] == 60
    assert told["totals"]["saved_seconds"] == 2.0
    assert (told["totals"]["hit"], told["totals"]["miss"]) == (2, 2)
    assert told["totals"]["since"] <= time.time()
    for kind in ("hit", "miss"):
        for bucket in told["buckets"]:
            assert len(bucket["latencies"][kind]) == len(told["bins"][kind]) + 1
            assert sum(bucket["latencies"][kind]) == bucket[kind]
    assert {name for bucket in told["buckets"] for name in bucket["reasons"]} == {"new_environment", "absent"}


def test_history_says_what_was_stored_and_held(served):
    served.kept()
    served.runtime.observer.history.look_now()

    bucket = served.get("/zit/v1/history").json()["buckets"][-1]

    assert bucket["entries"] == 1
    assert bucket["store_bytes"] == served.get("/zit/v1/stats").json()["store"]["bytes"]
    assert bucket["models"] == []  # fake weights are held by nobody


def test_a_namespace_is_told_of_its_own_history_only(guarded):
    guarded.kept(headers=ALICE)
    for seed in range(3):
        guarded.kept(headers=BOB, seed=seed)
    guarded.runtime.observer.history.look_now()

    def told(headers, query=""):
        answer = guarded.get(f"/zit/v1/history{query}", headers=headers).json()
        return answer["totals"]["miss"], answer["buckets"][-1]["entries"]

    assert told(READER) == (1, 1)
    assert told(CHIEF) == (4, 4)
    assert told(CHIEF, "?namespace=bob") == (3, 3)
    assert guarded.get("/zit/v1/history?namespace=bob", headers=READER).status_code == 403


def test_a_chart_and_its_totals_are_of_one_moment_and_one_look_at_the_file(served, monkeypatch):
    served.kept()
    served.get("/zit/v1/history")  # everything is written by now
    really, looks = HistoryFile.read, []

    def counted(file):
        looks.append(1)
        return really(file)

    monkeypatch.setattr(HistoryFile, "read", counted)
    told = served.get("/zit/v1/history").json()
    assert (told["totals"]["miss"], told["buckets"][-1]["miss"]) == (1, 1)
    assert len(looks) == 1


@pytest.mark.parametrize("query", ["hours=0", "hours=x", "hours=inf", "hours=nan", "days=1"])
def test_hours_that_make_no_sense_are_refused(served, query):
    answer = served.get(f"/zit/v1/history?{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, query.partition("=")[0])


# Events


def test_a_listener_hears_of_answers_entries_and_numbers_as_they_come(served, listen):
    listener = listen(served)
    assert listener.wait_for("hello")["namespace"] is None
    listener.wait_for("stats")
    listener.wait_for("queue", lambda value: value == {"running": []})
    listener.wait_for("models", lambda value: "names" in value)

    key = served.kept()["key"]
    answer = listener.wait_for("answer")
    assert (answer["outcome"], answer["key"]) == ("miss", key)
    assert listener.wait_for("entry") == {"change": "added", "key": key}
    listener.wait_for("stats", lambda value: value["store"]["entries"] == 1)

    served.kept()
    listener.wait_for("answer", lambda value: value["outcome"] == "hit")
    listener.wait_for("stats", lambda value: value["engine"]["requests"].get("hit") == 1)

    assert served.client.delete(f"{served.url}/zit/v1/entries/{key}").status_code == 200
    listener.wait_for("entry", lambda value: value == {"change": "changed", "key": None})
    listener.wait_for("stats", lambda value: value["store"]["entries"] == 0)


def test_a_listener_sees_the_queue_move(served, pipeline, listen):
    listener = listen(served)
    listener.wait_for("hello")
    pipeline.gate.clear()
    asking = threading.Thread(target=lambda: served.generate("a fox"))
    asking.start()
    running = listener.wait_for("queue", lambda value: value["running"])
    pipeline.gate.set()
    asking.join(20)
    count = len(listener.heard)
    assert running["running"][0]["prompt"] == "a fox"
    listener.wait_for("answer")
    deadline = time.monotonic() + 20
    while not any(each == ("queue", {"running": []}) for each in listener.heard[count - 1 :]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_listener_hears_nothing_of_another_namespace(guarded, listen):
    alice, chief = listen(guarded, READER), listen(guarded, CHIEF)
    for each in (alice, chief):
        each.wait_for("hello")
        each.wait_for("stats")
    guarded.kept("a secret owl", headers=BOB)
    guarded.kept("a fox", headers=ALICE)

    chief.wait_for("answer", lambda value: value["prompt"] == "a secret owl")
    alice.wait_for("answer", lambda value: value["prompt"] == "a fox")
    alice.wait_for("stats", lambda value: value["store"]["entries"] == 1)
    alice.wait_for("entry")

    assert "owl" not in "\n".join(alice.lines)
    assert "bob" not in "\n".join(alice.lines)
    assert "engine" not in "\n".join(alice.lines)
    assert len([name for name, _ in alice.heard if name == "answer"]) == 1
    assert len([name for name, _ in alice.heard if name == "entry"]) == 1


def test_a_quiet_stream_says_that_it_is_alive(served, listen, monkeypatch):
    monkeypatch.setattr(events, "QUIET_SECONDS", 0.3)
    listener = listen(served)
    deadline = time.monotonic() + 20
    while ": still here" not in listener.lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_streams_are_counted_and_given_back(serving, listen):
    served = serving(http_max_streams=1)
    listener = listen(served)
    listener.wait_for("hello")
    refused = served.get("/zit/v1/events")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    listener.close()
    deadline = time.monotonic() + 20
    while served.get("/zit/v1/events", stream=True).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stream_ends_when_the_server_does(served, listen):
    listener = listen(served)
    listener.wait_for("hello")
    served.ask_to_end()
    assert listener.ended()
    assert served.ended(20)


async def test_a_slow_listener_is_told_how_much_it_missed(served):
    heard = events.Heard(None)
    served.runtime.observer.answers.listen(heard.answered)
    result = served.generate().json()
    assert result["cached"] is False
    (one,) = served.runtime.observer.answers.latest()
    for _ in range(events.MOST_WAITING + 10):
        heard.answered(one)
    await heard.wait(5)
    assert len(heard.take()) == events.MOST_WAITING
    assert heard.left_out >= 10
    assert heard.take() == []


# Health


def test_health_says_more_to_who_may_read(guarded):
    assert guarded.get("/zit/v1/health").json() == {"status": "ok", "store": "open"}
    told = guarded.get("/zit/v1/health", headers=READER).json()
    assert told == {
        "status": "ok",
        "store": "open",
        "renderer": "ready",
        "broken_plugins": 0,
        "troubles": 0,
    }


def test_who_administers_is_told_why_the_store_is_not_open(serving, tokens, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "results").write_text("in the way")
    served = serving(http_tokens=str(tokens))
    told = served.get("/zit/v1/health", headers=READER).json()
    assert (told["store"], "store_problem" in told) == ("unavailable", False)
    told = served.get("/zit/v1/health", headers=CHIEF).json()
    assert str(tmp_path / "cache" / "results") in told["store_problem"]
    assert "tried again" in told["store_problem"]


def test_health_says_when_no_model_server_runs(serving, tmp_path):
    served = serving(real_weights=True, renderer="server", data_dir=str(tmp_path / "data"), device="cpu")
    assert served.get("/zit/v1/health").json()["renderer"] == "asleep"
