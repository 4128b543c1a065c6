"""Who may ask: tokens, scopes, namespaces; names and pages that are not ours."""

from __future__ import annotations

import base64

import pytest

from zit_ext.errors import SettingError
from zit_ext.http.auth import Gate, read_tokens
from zit_ext.http.gates import gate_of
from zit_ext.settings import Settings

from .server import ALICE, BOB, CHIEF, READER

pytestmark = pytest.mark.http


def test_without_a_token_nothing_is_answered_but_health(guarded):
    assert guarded.generate().status_code == 401
    assert guarded.get("/zit/blobs/" + "0" * 64).status_code == 401
    assert "Bearer" in guarded.generate().headers["WWW-Authenticate"]
    assert guarded.get("/zit/v1/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer alice-alice-alice-alic"},
        {"Authorization": "Basic !!!"},
        {"X-API-Key": "wrong"},
        {"Cookie": "zit_token=wrong"},
        {"Authorization": "Bearer \xe4\xf6"},
    ],
)
def test_a_wrong_token_is_refused(guarded, headers):
    assert guarded.generate(headers=headers).status_code == 401


def test_a_token_may_come_in_four_ways(guarded):
    token = "alice-alice-alice-alice"
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Basic {basic}"},
        {"X-API-Key": token},
        {"Cookie": f"a=b; zit_token={token}"},
    ):
        assert guarded.get("/zit/v1/session", headers=headers).json()["name"] == "alice"


def test_a_browser_gets_a_cookie_that_no_script_can_read(guarded):
    answer = guarded.post("/zit/v1/session", {"token": "alice-alice-alice-alice"})

    assert answer.status_code == 204
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert guarded.get("/zit/v1/session").json()["namespace"] == "alice"
    assert guarded.post("/zit/v1/session", {"token": "x"}).status_code == 401


def test_a_token_does_what_its_scopes_say(guarded):
    assert guarded.generate(headers=READER).status_code == 403
    assert guarded.generate(headers=READER).json()["error"] == {
        "code": "scope",
        "message": "this token lacks the scope generate",
        "field": None,
    }


def test_the_log_names_whose_token_lacks_a_scope(guarded, caplog):
    with caplog.at_level("INFO", logger="zit_ext.http.service"):
        guarded.generate(headers=READER)
    assert [each.getMessage().split()[1:] for each in caplog.records] == [
        ["reader", "POST", "/zit/v1/generate", "403"]
    ]


def test_users_do_not_see_each_others_results(guarded):
    first = guarded.generate(headers=ALICE).json()["images"][0]
    other = guarded.generate(headers=BOB).json()["images"][0]

    assert (first["outcome"], other["outcome"]) == ("miss", "miss")
    assert first["key"] != other["key"]
    assert guarded.generate(headers=ALICE).json()["cached"] is True


def test_a_token_cannot_name_another_namespace(guarded):
    assert guarded.generate(headers=ALICE, namespace="bob").status_code == 403
    assert guarded.generate(headers=ALICE, namespace="alice").status_code == 200
    guarded.generate(headers=BOB)
    assert guarded.generate(headers=CHIEF, namespace="bob").json()["cached"] is True


def test_only_an_admin_may_pin_weights_or_jump_the_line(guarded):
    assert guarded.generate(headers=ALICE, keep_alive=-1).status_code == 403
    assert guarded.generate(headers=ALICE, priority=5).status_code == 403
    assert guarded.generate(headers=ALICE, priority=-1).status_code == 200
    assert guarded.generate(headers=CHIEF, keep_alive=-1).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "a@localhost"])
def test_a_name_that_is_not_ours_is_refused(served, host):
    answer = served.get("/zit/v1/health", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert served.generate(headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:7", "mine.example", "LOCALHOST"])
def test_our_own_names_are_welcome(serving, host):
    served = serving(http_hosts="mine.example")
    assert served.get("/zit/v1/health", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_is_refused(served, pipeline):
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{served.port + 1}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ):
        assert served.generate(headers=headers).status_code == 403
        assert served.get("/zit/v1/generate?prompt=a&seed=1", headers=headers).status_code == 403
    assert pipeline.rendered == []


def test_our_own_page_may_ask(served):
    assert served.generate(headers={"Origin": served.url, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
    assert served.get("/zit/v1/health", headers=typed).status_code == 200


def test_there_is_no_cors_unless_it_is_set(served, serving):
    def preflight(to):
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        return to.client.options(f"{to.url}/zit/v1/generate", headers=headers, timeout=10)

    assert "Access-Control-Allow-Origin" not in preflight(served).headers
    served.close()
    other = serving(http_origins="https://app.example")
    assert preflight(other).headers["Access-Control-Allow-Origin"] == "https://app.example"
    answer = other.generate(headers={"Origin": "https://app.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert other.generate(headers={"Origin": "https://b.example"}).status_code == 403


@pytest.mark.parametrize(
    "text",
    [
        "a = 1",
        '[a]\ntoken = "short"',
        '[a]\nsha256 = "12"',
        '[a]\ntoken = "0123456789abcdef"\nsha256 = "12"',
        '[a]\ntoken = "0123456789abcdef"\nscopes = ["all"]',
        '[a]\ntoken = "0123456789abcdef"\nscope = ["read"]',
        '[a]\ntoken = "0123456789abcdef"\nrate = -1',
        '[a]\ntoken = "0123456789abcdef"\nrate = nan',
        f'[a]\ntoken = "0123456789abcdef"\nrate = {"9" * 400}',
        "a = " + "[" * 5000,
        "[a",
    ],
)
def test_a_file_of_tokens_that_says_nothing_clear_is_refused(tmp_path, text):
    path = tmp_path / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError):
        read_tokens(path, "default")


def test_an_empty_file_of_tokens_does_not_open_the_door(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text("", encoding="utf-8")
    with pytest.raises(SettingError):
        gate_of(Settings(http_tokens=path))


def test_only_digests_of_tokens_are_kept(tokens):
    gate = Gate(read_tokens(tokens, "default"))
    assert "alice-alice" not in repr(gate._tokens)
