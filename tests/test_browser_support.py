"""The fixtures themselves: a page is looked at, and what it does wrong is seen."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_a_page_is_read_by_a_real_browser(page):
    page.set_content("<h1>Hello</h1><script>document.querySelector('h1').textContent += ' there'</script>")

    assert page.locator("h1").inner_text() == "Hello there"


def test_what_a_script_does_wrong_is_heard(page):
    page.allowed.append("script: .*nothing_of_the_kind")

    with page.expect_event("pageerror"):
        page.set_content("<script>nothing_of_the_kind()</script>")


def test_a_request_that_leaves_the_machine_is_refused(page):
    page.allowed += ["left the machine", "ERR_FAILED"]

    page.set_content("<p>Away</p>")
    outcome = page.evaluate(
        "fetch('http://192.0.2.1/x', {mode: 'no-cors'}).then(() => 'went', () => 'refused')"
    )

    assert outcome == "refused"
