"""Parts of equal identity are held once: one text encoder and one VAE for several models."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest

from zit_ext.pipeline import SharesParts
from zit_ext.records import FileRef, ModelRef
from zit_ext.testing import FakePipeline

pytestmark = pytest.mark.pipeline


@pytest.fixture
def two(open_zimage, tiny, other_tiny):
    """Two models with one text encoder and one VAE in common."""
    vae = FileRef(source="vae", path=other_tiny / "vae", identity="one vae")
    encoder = FileRef(source="encoder", path=other_tiny, identity="one encoder")
    return [
        open_zimage(ModelRef(source=str(folder), path=folder, vae=vae, text_encoder=encoder))
        for folder in (tiny, other_tiny)
    ]


def test_shared_parts_are_one_and_the_pictures_are_the_same(two, ask, render):
    one, other = two
    expected = render(other, ask()).content
    assert isinstance(other, SharesParts)
    dropped = weakref.ref(other._modules["vae"])

    assert other.adopt("text_encoder", one)
    assert other.adopt("vae", one)

    gc.collect()
    assert dropped() is None
    assert render(other, ask()).content == expected
    assert render(other, ask(prompt="new")).content != render(one, ask(prompt="new")).content


def test_what_is_shared_stays_when_one_of_two_is_closed(two, ask, render):
    one, other = two
    expected = render(other, ask()).content
    other.adopt("text_encoder", one)
    other.adopt("vae", one)

    one.close()

    assert render(other, ask(prompt="new")).content
    assert render(other, ask()).content == expected


def test_tiles_of_one_model_do_not_change_the_pictures_of_another(open_zimage, tiny, ask, render):
    request = ask(width=256, height=128, steps=2)
    tiled, plain = (
        open_zimage(ModelRef(source=str(tiny), path=tiny, vae_tiling=tiling)) for tiling in (True, False)
    )
    expected = [render(each, request).content for each in (tiled, plain)]

    assert plain.adopt("vae", tiled)

    assert [render(each, request).content for each in (tiled, plain)] == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("transformer", {}),
        ("vae", {"dtype": "bfloat16"}),
        ("text_encoder", {"offload": "model"}),
    ],
)
def test_what_is_patched_hooked_or_of_another_kind_is_not_shared(open_zimage, tiny, part, changes):
    one = open_zimage(tiny)
    other = open_zimage(ModelRef(source=str(tiny), path=tiny, **changes))
    module = other._modules[part]

    assert not other.adopt(part, one)
    assert not other.adopt(part, FakePipeline())
    assert other._modules[part] is module


def test_pictures_of_two_models_in_turn_are_their_own(two, ask, render):
    expected = [render(pipeline, ask()).content for pipeline in two]
    for part in ("text_encoder", "vae"):
        two[1].adopt(part, two[0])

    for _ in range(2):
        assert [render(pipeline, ask()).content for pipeline in two] == expected


def test_leases_may_be_taken_from_one_that_lends_for_both(two, ask, render, leases):
    one, other = two
    other.adopt("vae", one)

    with contextlib.ExitStack() as stack:
        stack.enter_context(leases("vae"))
        assert render(other, ask()).content
