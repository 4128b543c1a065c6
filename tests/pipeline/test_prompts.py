"""What of a long prompt is not read, and that the user hears of it."""

from __future__ import annotations

import pytest

from zit_ext.errors import RequestError

pytestmark = pytest.mark.pipeline

# The tiny model's tokenizer has one token for each byte; the chat template puts tokens around them.
BEFORE = len("user\n") + 1
LIMIT = 64
FITS = "x" * (LIMIT - BEFORE)


@pytest.mark.parametrize(
    ("prompt", "cut"),
    [
        ("short", None),
        (FITS, None),
        (FITS + "abc", "abc"),
        ("wörds " * 20, "örds " + "wörds " * 11),  # half an ö is read
    ],
)
def test_the_end_of_a_long_prompt_that_is_not_read_is_told(zimage, ask, render, prompt, cut):
    request = ask(prompt=prompt, max_sequence_length=LIMIT)

    assert zimage.prompt_overflow(request) == cut
    warnings = render(zimage, request).warnings
    assert (cut is None) == (warnings == ())
    assert cut is None or repr(cut) in warnings[0]


def test_what_is_told_to_be_cut_changes_nothing_and_what_is_not_does(zimage, ask, render):
    request = ask(prompt=FITS + "abc", max_sequence_length=LIMIT)
    changed_behind = ask(prompt=FITS + "xyz", max_sequence_length=LIMIT)
    changed_before = ask(prompt=FITS[:-1] + "yabc", max_sequence_length=LIMIT)

    expected = render(zimage, request).content

    assert render(zimage, changed_behind).content == expected
    assert render(zimage, changed_before).content != expected


def test_a_remembered_prompt_is_told_again_to_be_cut(zimage, ask, render):
    request = ask(prompt=FITS + "abc", max_sequence_length=LIMIT)

    assert render(zimage, request).warnings == render(zimage, request).warnings != ()


def test_a_long_negative_prompt_is_told_where_it_counts(zimage, ask, render):
    fields = {"negative_prompt": FITS + "abc", "max_sequence_length": LIMIT}

    assert render(zimage, ask(**fields)).warnings == ()
    assert "negative prompt" in render(zimage, ask(**fields, guidance=1.0)).warnings[0]


def test_long_prompts_may_be_refused(open_zimage, tiny, ask, render, leases):
    strict = open_zimage(tiny, long_prompts="refuse")

    with pytest.raises(RequestError, match="'abc'") as caught:
        render(strict, ask(prompt=FITS + "abc", max_sequence_length=LIMIT), lease=leases)

    assert caught.value.field == "prompt"
    assert not leases.asked
    assert render(strict, ask(prompt=FITS, max_sequence_length=LIMIT)).warnings == ()
