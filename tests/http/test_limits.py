"""How much one server takes on, and how it says no in each dialect."""

from __future__ import annotations

import http.client
import threading
import time

import pytest

from zit_ext.errors import QueueFullError
from zit_ext.http import limits
from zit_ext.http.auth import Caller, Scope
from zit_ext.http.errors import HttpError
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock

from .server import ALICE, BOB

pytestmark = pytest.mark.http

OURS, OPENAI, WEBUI = "/zit/v1/generate", "/v1/images/generations", "/sdapi/v1/txt2img"


def message(answer):
    """Return the error's words from a body of any dialect."""
    body = answer.json()
    return body["detail"] if "detail" in body else body["error"]["message"]


@pytest.mark.parametrize("path", [OURS, OPENAI, WEBUI])
def test_a_body_that_is_too_large_is_not_read(serving, path):
    served = serving(http_max_body=1000)

    told = served.post(path, {"prompt": "x" * 2000, "seed": 1})

    assert told.status_code == 413
    assert "1,000 bytes" in message(told)


def test_a_body_of_unknown_length_is_not_read_beyond_the_limit(serving):
    served = serving(http_max_body=1000)

    told = served.client.post(served.url + OURS, data=(b"x" * 300 for _ in range(100)), timeout=10)

    assert told.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.putrequest("POST", OURS)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"prompt"')

    assert connection.getresponse().status == 408
    connection.close()


@pytest.mark.parametrize("path", [OURS, OPENAI, WEBUI])
def test_a_full_queue_says_when_to_come_back(served, pipeline, path):
    pipeline.error = QueueFullError(limit=1, retry_after=7.2)

    told = served.post(path, {"prompt": "a", "seed": 1})

    assert (told.status_code, told.headers["Retry-After"]) == (429, "8")
    assert "wait already" in message(told)


def test_the_queue_of_the_device_is_the_one_that_is_full(holding):
    served = holding(queue_limit=1)
    weights = served.trial.pipeline
    weights.gate.clear()
    statuses = []
    asking = [
        threading.Thread(target=lambda seed=seed: statuses.append(served.generate(seed=seed).status_code))
        for seed in range(2)
    ]
    asking[0].start()
    assert weights.started.wait(20)
    asking[1].start()
    for _ in range(200):
        if len(served.service.board.running()) == 2:
            break
        time.sleep(0.02)
    time.sleep(0.2)

    refused = served.generate(seed=99)
    weights.gate.set()
    for each in asking:
        each.join(20)

    assert (refused.status_code, statuses) == (429, [200, 200])
    assert int(refused.headers["Retry-After"]) >= 1


def test_each_token_has_its_own_rate(serving, tokens):
    served = serving(http_tokens=str(tokens), http_rate=0.001)

    first, second = (served.generate(headers=ALICE) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 429)
    assert int(second.headers["Retry-After"]) > 900
    assert served.generate(headers=BOB).status_code == 200
    assert served.get("/zit/v1/session", headers=ALICE).status_code == 200


def test_a_rate_allows_bursts_of_a_second_and_no_more():
    clock = FakeClock()
    limit = limits.Limits(Settings(http_rate=5.0), clock)
    caller = Caller(name="a", scopes=frozenset(Scope), namespace="a")

    def allowed():
        try:
            limit.admit(caller, Scope.GENERATE)
        except HttpError:
            return False
        return True

    assert [allowed() for _ in range(6)] == [True] * 5 + [False]
    clock.advance(0.2)
    assert [allowed() for _ in range(2)] == [True, False]
    clock.advance(1000)
    assert [allowed() for _ in range(6)] == [True] * 5 + [False]


def test_only_so_many_streams_are_open_at_once(serving):
    served = serving(http_max_streams=1)
    served.trial.pipeline.gate.clear()
    first = served.post(OURS, {"prompt": "a", "seed": 1, "stream": True}, stream=True)
    lines = first.iter_lines()
    assert next(lines) == b"event: begun"

    refused = served.post(OURS, {"prompt": "b", "seed": 1, "stream": True})
    first.close()
    served.trial.pipeline.gate.set()

    assert refused.status_code == 429
    for _ in range(100):
        again = served.post(OURS, {"prompt": "c", "seed": 1, "stream": True})
        if again.status_code == 200:
            break
        time.sleep(0.05)
    assert again.status_code == 200


def test_a_stream_that_is_left_stops_its_render(served, pipeline):
    pipeline.gate.clear()
    stream = served.post(OURS, {"prompt": "a", "seed": 1, "stream": True}, stream=True)
    lines = stream.iter_lines()
    assert next(lines) == b"event: begun"
    assert pipeline.started.wait(10)
    stream.close()

    for _ in range(100):
        if not served.service.board.running():
            break
        time.sleep(0.05)
    assert served.service.board.running() == []
    assert pipeline.rendered == []


@pytest.mark.parametrize("path", [OURS, OPENAI, WEBUI])
def test_who_waits_too_long_is_told_so(serving, path):
    served = serving(http_timeout=0.3)
    served.trial.pipeline.gate.clear()

    told = served.post(path, {"prompt": "a", "seed": 1})

    assert told.status_code == 504
    assert "ask again" in message(told)
    assert served.service.board.running() == []


@pytest.mark.parametrize(
    ("path", "where"), [("/zit/x", "error"), ("/v1/x", "error"), ("/sdapi/v1/x", "detail"), ("/x", "error")]
)
def test_what_is_not_there_is_said_in_the_dialect_of_its_place(served, path, where):
    told = served.get(path)
    assert told.status_code == 404
    assert where in told.json()


def test_a_wrong_method_says_which_are_right(served):
    told = served.client.put(served.url + OURS, timeout=10)
    assert told.status_code == 405
    assert told.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_many_at_once_are_all_answered(served):
    answers = []

    def ask(number):
        mine = [served.generate(seed=seed, headers={}).status_code for seed in range(number % 4, 8)]
        answers.extend(mine)

    asking = [threading.Thread(target=ask, args=[number]) for number in range(16)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(60)

    assert set(answers) == {200}
    assert len(answers) == 16 * 8 - 4 * (0 + 1 + 2 + 3)
    assert len(served.trial.rendered) == 8
