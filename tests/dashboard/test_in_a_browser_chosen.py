"""Several entries at once: chosen in the gallery, pinned, deleted, and two of them side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.http.server import ALICE

from .test_in_a_browser import PHONE, serious, some

pytestmark = [pytest.mark.browser, pytest.mark.http]


def choose(page, key, **how):
    page.locator(f"[data-key='{key}']").hover()
    page.locator(f"[data-key='{key}'] .choose").click(**how)


def pinned_keys(server):
    return {each["key"] for each in server.get("/zit/v1/entries?pinned=true").json()["entries"]}


def test_several_entries_are_pinned_and_let_go_of_at_once(served, opened):
    newest, second, _oldest = some(served)
    page = opened(served, "#/gallery")

    choose(page, newest)
    choose(page, second)
    expect(page.locator("[data-test=chosen]")).to_have_text("2 chosen")
    page.locator("[data-test=pin-all]").click()

    expect(page.locator(".picture.pinned")).to_have_count(2)
    assert pinned_keys(served) == {newest, second}
    expect(page.locator(".chosen-bar")).to_be_hidden()  # done: nothing is chosen any more
    choose(page, newest)
    page.locator("[data-test=unpin-all]").click()
    expect(page.locator(".picture.pinned")).to_have_count(1)
    assert pinned_keys(served) == {second}


def test_a_range_is_chosen_with_shift_and_deleted_after_one_question(served, opened):
    keys = some(served, 6)
    page = opened(served, "#/gallery")

    choose(page, keys[1])
    choose(page, keys[4], modifiers=["Shift"])
    expect(page.locator("[data-test=chosen]")).to_have_text("4 chosen")
    page.locator("[data-test=remove-all]").click()
    expect(page.get_by_role("dialog")).to_contain_text("Delete 4 entries?")
    page.get_by_role("button", name="Cancel").click()
    assert served.runtime.store.usage().entries == 6
    page.locator("[data-test=remove-all]").click()
    page.locator("[data-test=confirm]").click()

    expect(page.locator(".picture")).to_have_count(2)
    assert [each.key for each in served.runtime.store.entries()] == [keys[0], keys[5]]


def test_what_went_meanwhile_does_not_keep_the_others(served, opened):
    newest, second, oldest = some(served)
    page = opened(served, "#/gallery")
    choose(page, newest)
    choose(page, oldest)
    page.allowed.append("404")
    served.runtime.store.remove([oldest])

    page.locator("[data-test=remove-all]").click()
    page.locator("[data-test=confirm]").click()

    expect(page.locator(".picture")).to_have_count(1)
    assert [each.key for each in served.runtime.store.entries()] == [second]


def test_two_chosen_entries_are_shown_side_by_side_with_the_fields_that_differ(served, opened):
    newest, _, oldest = some(served)
    page = opened(served, "#/gallery")
    choose(page, newest)
    expect(page.locator("[data-test=compare]")).to_have_count(0)  # one alone has nothing to differ from
    choose(page, oldest)
    page.locator("[data-test=compare]").click()

    expect(page.locator(".two img")).to_have_count(2)
    rows = page.locator(".compare tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="Prompt")).to_contain_text("picture number 2")
    expect(rows.filter(has_text="Prompt")).to_contain_text("picture number 0")
    expect(rows.filter(has_text="Seed")).to_have_count(1)
    page.go_back()
    expect(page.locator(".picture")).to_have_count(3)


def test_choosing_goes_by_keyboard_and_escape_ends_it(served, opened):
    newest, second, _ = some(served)
    page = opened(served, "#/gallery")
    page.locator(f"[data-key='{newest}'] a").focus()

    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("[data-test=chosen]")).to_have_text("2 chosen")
    expect(page.locator(f"[data-key='{second}'] .choose")).to_be_checked()
    page.keyboard.press("x")
    expect(page.locator("[data-test=chosen]")).to_have_text("1 chosen")
    page.keyboard.press("Escape")
    expect(page.locator(".chosen-bar")).to_be_hidden()
    expect(page.locator(".choose:checked")).to_have_count(0)


def test_an_entry_that_is_gone_cannot_be_compared_and_says_so(served, opened):
    key = some(served)[0]
    page = opened(served)
    page.allowed.append("404")
    page.evaluate(f"location.hash = '#/compare/{key}/{'0' * 64}'")

    expect(page.get_by_text("One of the two is not stored any more")).to_be_visible()


def test_who_may_only_read_chooses_to_compare_and_nothing_else(guarded, opened):
    keys = some(guarded, 2, headers=ALICE)
    page = opened(guarded)
    page.allowed.append("401")
    page.get_by_label("Token").fill("reader-reader-reader")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Gallery", exact=True).click()
    for key in keys:
        choose(page, key)

    expect(page.locator("[data-test=compare]")).to_be_visible()
    expect(page.locator("[data-test=remove-all], [data-test=pin-all]")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desktop", "phone"])
def test_everybody_can_choose_and_compare(served, opened, theme, size):
    newest, second, _ = some(served)
    page = opened(
        served,
        "#/gallery",
        color_scheme=theme,
        reduced_motion="reduce",
        **({"viewport": size} if size else {}),
    )
    choose(page, newest)
    choose(page, second)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("[data-test=compare]").click()
    expect(page.locator(".two img")).to_have_count(2)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
