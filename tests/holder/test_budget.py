"""What weights may occupy, and what renders need beside them."""

from hypothesis import given
from hypothesis import strategies as st

from zit_ext.models.budget import Budget, WorkingMemory, budget_of
from zit_ext.models.holdings import weights_key
from zit_ext.records import FileRef, ModelRef
from zit_ext.settings import Settings
from zit_ext.testing import make_request

sides = st.integers(1, 128).map(lambda number: number * 16)
requests = st.builds(lambda width, height: make_request(width=width, height=height), sides, sides)
bytes_used = st.integers(0, 80_000_000_000)


def test_zero_is_no_limit_and_auto_leaves_a_quarter_of_the_ram():
    assert budget_of(Settings(vram_bytes=0, ram_bytes=0, max_models=0), 64) == Budget()
    assert budget_of(Settings(), 64) == Budget(ram_bytes=48)
    assert budget_of(Settings(), None) == Budget()


@given(requests, bytes_used)
def test_a_render_that_was_seen_fits_the_next_time(request_, used):
    learned = WorkingMemory().having_seen(request_, used)
    within_reason = used <= 60_000 * request_.width * request_.height
    assert learned.expecting(request_) >= used or not within_reason


@given(requests, requests, st.lists(bytes_used, max_size=5))
def test_a_larger_picture_never_needs_less(one, other, seen):
    memory = WorkingMemory()
    for used in seen:
        memory = memory.having_seen(one, used)
    small, large = sorted([one, other], key=lambda each: each.width * each.height)
    assert memory.expecting(small) <= memory.expecting(large)


def test_a_small_need_is_believed_after_a_few_renders():
    memory, request = WorkingMemory(), make_request()
    first = memory.expecting(request)
    for _ in range(30):
        memory = memory.having_seen(request, 600_000_000)
    assert memory.expecting(request) < 700_000_000 < first


def test_out_of_memory_makes_us_expect_more_but_not_without_end():
    memory, request = WorkingMemory(), make_request()
    assert memory.after_out_of_memory().expecting(request) > memory.expecting(request)
    for _ in range(100):
        memory = memory.after_out_of_memory()
    assert memory.expecting(request) < 100_000_000_000


def test_weights_are_the_same_only_if_everything_about_them_is():
    usual = ModelRef(source="a", identity="1")
    others = [
        ModelRef(source="a", identity="2"),
        ModelRef(source="a", identity="1", dtype="float32"),
        ModelRef(source="a", identity="1", attention="flash"),
        ModelRef(source="a", identity="1", vae_tiling=True),
        ModelRef(source="a", identity="1", offload="group"),
        ModelRef(source="a", identity="1", vae=FileRef(source="v")),
        ModelRef(source="a", identity="1", text_encoder=FileRef(source="v")),
        ModelRef(source="a", identity="1", text_encoder=FileRef(source="v", identity="3")),
        ModelRef(source="1"),
    ]
    keys = [weights_key(model) for model in (usual, *others[:-1])]
    assert len(set(keys)) == len(keys)
    assert weights_key(ModelRef(source="elsewhere", identity="1")) == weights_key(usual)
