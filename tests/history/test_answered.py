"""What is counted of an answer."""

from __future__ import annotations

from zit_ext.answered import Answered, answered_of, bin_of, reason_of
from zit_ext.metrics import Metrics
from zit_ext.records import NO_ENVIRONMENT, CacheMode, Encoded, Outcome, Request, Result, Status

from .making import NOW


def test_who_shared_a_render_is_counted_as_collapsed_and_who_shared_a_look_up_is_not():
    def told(outcome):
        status = Status(outcome=outcome, collapsed=True)
        request = Request(prompt="a fox", seed=1)
        return answered_of(Result(content=Encoded("a/b", b""), status=status, request=request), NOW)

    assert [told(outcome).collapsed for outcome in (Outcome.MISS, Outcome.HIT)] == [True, False]


def test_a_reason_is_one_name():
    def reason(outcome, cache=CacheMode.USE, **status):
        request = Request(prompt="a", seed=1, cache=cache)
        done = Status(outcome=outcome, **status)
        return reason_of(Result(content=Encoded("a/b", b""), status=done, request=request))

    assert reason(Outcome.HIT) is None
    assert reason(Outcome.MISS, key="0" * 64, stored=True) == "absent"
    assert reason(Outcome.MISS, stale=True) == "stale"
    assert reason(Outcome.MISS, CacheMode.REFRESH, key="0" * 64) == "refresh"
    assert reason(Outcome.MISS, stored=True) == "not_hashed"
    assert reason(Outcome.MISS, key="0" * 64, stored=True, detail=NO_ENVIRONMENT) == "new_environment"
    assert reason(Outcome.BYPASS, reason="seed") == "seed"


def test_whoever_looks_on_cannot_hurt_an_answer(caplog):
    metrics = Metrics("mine")
    seen: list[Answered] = []

    def broken(_one):
        raise RuntimeError("a listener is broken")

    metrics.tell(broken, broken)
    metrics.tell(seen.append)
    result = Result(
        content=Encoded("a/b", b""), status=Status(outcome=Outcome.HIT), request=Request(prompt="a", seed=1)
    )
    metrics.answered(result)
    metrics.event("corrupt")

    assert [each.namespace for each in seen] == ["mine"]
    assert metrics.snapshot().events == {"corrupt": 1}
    assert "a listener is broken" in caplog.text
    assert answered_of(result, 5.0).at == 5.0
    assert sum(metrics.snapshot().latencies["hit"]) == 1
    assert metrics.snapshot().latencies["hit"][bin_of("hit", 0.0)] == 1
