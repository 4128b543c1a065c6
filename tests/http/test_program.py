"""`zit-ext serve` and `zit-ext token` as programs: who may come in, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from zit_ext.cli import main
from zit_ext.http.serving import Doorkeeper

pytestmark = pytest.mark.http

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path):
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ZIT_")}
    return {
        **keep,
        "ZIT_CONFIG": str(tmp_path / "config.toml"),
        "ZIT_CACHE_DIR": str(tmp_path / "cache"),
        "ZIT_DATA_DIR": str(tmp_path / "data"),
        "ZIT_RENDERER": "local",
        "ZIT_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def started(environ, *arguments):
    program = subprocess.Popen(
        [sys.executable, "-m", "zit_ext.cli", "serve", "--port", "0", *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = program.stdout.readline()
    return program, line.split("/ ")[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_it_begins_with_the_models_of_the_setting_preload(environ):
    program, url = started({**environ, "ZIT_PRELOAD": "no-such-model"})
    try:
        assert requests.get(f"{url}/zit/v1/health", timeout=20).json()["status"] == "ok"
    finally:
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0
    assert "'no-such-model' was not preloaded: no weights for" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_the_program_answers_and_ends_with_code_0(environ):
    program, url = started(environ)
    try:
        assert requests.get(f"{url}/zit/v1/health", timeout=20).json()["status"] == "ok"
        missing = requests.post(f"{url}/zit/v1/generate", json={"prompt": "a", "seed": 1}, timeout=20)
        assert missing.status_code in (404, 503)
        assert str(ROOT) not in missing.text
    finally:
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_the_log_as_json_has_a_line_with_the_id_that_the_client_got(environ):
    program, url = started({**environ, "ZIT_LOG_FORMAT": "json"}, "-v")
    try:
        mine = requests.get(f"{url}/zit/v1/health?x=secret", headers={"X-Request-ID": "mine-7"}, timeout=20)
        ours = requests.get(f"{url}/zit/nothing", timeout=20)
    finally:
        program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=60)

    assert mine.headers["X-Request-Id"] == "mine-7"
    lines = {line.get("request_id"): line for line in map(json.loads, err.splitlines())}
    told = lines["mine-7"]
    assert (told["method"], told["path"], told["status"]) == ("GET", "/zit/v1/health", 200)
    assert told["seconds"] > 0
    assert lines[ours.headers["X-Request-Id"]]["status"] == 404
    assert "secret" not in err


def test_a_port_that_is_taken_is_named_with_what_to_do(capsys, monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port = {port}" in said
    assert "name a free --port" in said


def test_listening_to_others_needs_tokens(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))
    for address in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        assert main(["serve", "--listen", address]) == 2
        assert "needs tokens" in capsys.readouterr().err


def test_a_token_is_shown_once_and_opens_the_door(environ, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))
    file = tmp_path / "tokens.toml"
    assert main(["token", "alice", "--tokens", str(file), "--namespace", "alice"]) == 0
    token = capsys.readouterr().out.strip()
    assert token not in file.read_text(encoding="utf-8")
    assert main(["token", "alice", "--tokens", str(file)]) == 2
    assert main(["token", "b c", "--tokens", str(file)]) == 2
    assert main(["token", "bob", "--tokens", str(file), "--scopes", "all"]) == 2
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o077 == 0

    program, url = started(environ, "--tokens", str(file))
    try:

        def session(**headers):
            return requests.get(f"{url}/zit/v1/session", headers=headers, timeout=20)

        assert session().status_code == 401
        assert session(Authorization=f"Bearer {token}").json()["namespace"] == "alice"
    finally:
        program.terminate()
        program.communicate(timeout=60)


def test_what_runs_at_the_end_is_finished(served, pipeline):
    answers = []
    pipeline.gate.clear()
    asking = threading.Thread(target=lambda: answers.append(served.generate()))
    asking.start()
    assert pipeline.started.wait(10)

    served.ask_to_end()
    time.sleep(0.3)
    assert not served.ended(0)
    pipeline.gate.set()
    asking.join(20)

    assert answers[0].status_code == 200
    assert served.ended(20)


def test_what_cannot_be_finished_is_handed_back(serving):
    served = serving(http_patience=0.2)
    answers = []
    served.trial.pipeline.gate.clear()
    asking = threading.Thread(target=lambda: answers.append(served.generate()))
    asking.start()
    assert served.trial.pipeline.started.wait(10)

    served.ask_to_end()
    asking.join(20)

    assert answers[0].status_code == 503
    assert answers[0].json()["error"]["code"] == "closing"
    assert int(answers[0].headers["Retry-After"]) > 0
    assert served.ended(20)


def test_half_a_request_is_not_waited_for_for_ever(serving):
    import socket

    served = serving(doorkeeper=Doorkeeper(header_seconds=0.2))
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET /zit/v1/health HT")
        assert connection.recv(100) == b""  # closed, and no answer
    assert served.get("/zit/v1/health").status_code == 200
