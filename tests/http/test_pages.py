"""The dashboard as files: what is answered under /zit/, with which headers, to whom."""

from __future__ import annotations

import re

import pytest

from zit_ext.http.pages import all_files

pytestmark = pytest.mark.http


def test_the_page_comes_without_a_token_and_allows_only_its_own_files(guarded):
    answer = guarded.get("/zit/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert guarded.get("/zit/v1/stats").status_code == 401  # what it shows needs one


@pytest.mark.parametrize("path", ["/", "/zit"])
def test_shorter_addresses_lead_to_the_page(served, path):
    answer = served.get(path)

    assert answer.url == f"{served.url}/zit/"
    assert answer.status_code == 200


def test_a_page_that_did_not_change_is_not_sent_again(served):
    first = served.get("/zit/")
    again = served.get("/zit/", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert again.status_code == 304
    assert again.content == b""


def test_every_file_that_the_page_names_is_there_for_ever(served):
    named = re.findall(r'"(assets/[^"]+)"', served.get("/zit/").text)

    assert len(named) >= 5
    for path in named:
        answer = served.get(f"/zit/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_file_of_an_older_version_is_asked_for_again(served):
    for path in ("0123456789abcdef/app.js", "app.js", "locales/en.json"):
        answer = served.get(f"/zit/assets/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["index.html", "nothing.js", "", "../pages.py", "%2e%2e/pages.py"])
def test_nothing_else_can_be_had(served, path):
    assert served.get(f"/zit/assets/{path}").status_code == 404


def test_the_version_names_exactly_these_files():
    known = all_files()

    assert re.fullmatch(r"[0-9a-f]{16}", known.version)
    assert known.version.encode() in known.files["index.html"].data
    assert b"VERSION" not in known.files["index.html"].data


def test_entries_are_counted_whatever_the_page(served):
    for seed in range(3):
        served.generate(seed=seed)
    served.runtime.store.flush()

    page = served.get("/zit/v1/entries?limit=1&total=true").json()

    assert (len(page["entries"]), page["total"], page["more"]) == (1, 3, True)
    assert served.get("/zit/v1/entries?prompt=nothing&total=true").json()["total"] == 0
    assert "total" not in served.get("/zit/v1/entries").json()


def test_an_entry_says_what_comes_nearest_and_in_which_fields(served):
    for seed, prompt in ((1, "a lighthouse"), (2, "a lighthouse"), (9, "a fox")):
        served.generate(prompt, seed=seed)
        served.runtime.store.flush()
    newest, second, first = (each["key"] for each in served.get("/zit/v1/entries").json()["entries"])

    told = served.get(f"/zit/v1/entries/{second}/nearest").json()

    assert told["key"] == second
    assert [each["entry"]["key"] for each in told["nearest"]] == [first, newest]
    assert told["nearest"][0]["differences"] == {"seed": [2, 1]}
    assert set(told["nearest"][1]["differences"]) == {"seed", "prompt"}
    older = served.get(f"/zit/v1/entries/{second}/nearest?older=true").json()["nearest"]
    assert [each["entry"]["key"] for each in older] == [first]


def test_what_comes_nearest_is_never_of_another_namespace(guarded):
    from .server import ALICE, BOB, CHIEF

    guarded.generate("a secret", headers=ALICE)
    guarded.generate("a secret", headers=BOB)
    guarded.runtime.store.flush()
    (mine,) = guarded.get("/zit/v1/entries", headers=BOB).json()["entries"]

    told = guarded.get(f"/zit/v1/entries/{mine['key']}/nearest", headers=BOB).json()

    assert told["nearest"] == []
    assert guarded.get(f"/zit/v1/entries/{mine['key']}/nearest", headers=ALICE).status_code == 404
    assert guarded.get(f"/zit/v1/entries/{mine['key']}/nearest", headers=CHIEF).json()["nearest"] == []
