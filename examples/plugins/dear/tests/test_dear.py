import zit_dear

from zit_ext.testing import make_entry, make_request


def test_what_took_long_to_render_outlives_what_was_quick(make_zit_engine):
    engine = make_zit_engine(eviction="dear", max_entries=2)
    for prompt, seconds in (("slow", 30.0), ("quick", 1.0), ("quicker", 0.5), ("normal", 8.0)):
        engine.pipeline.seconds = seconds
        engine.generate(make_request(prompt=prompt))
        engine.stored()  # written and evicted, before the next one comes
    assert {entry.prompt for entry in engine.stored()} == {"slow", "normal"}


def test_what_was_dear_once_goes_in_the_end():
    score = zit_dear.zit_eviction_score
    old = score("dear", make_entry(cost=30.0), floor=0.0)
    new = score("dear", make_entry(cost=1.0), floor=31.0)
    assert new > old


def test_other_policies_are_not_its_business():
    assert zit_dear.zit_eviction_score("lru", make_entry(), floor=0.0) is None
