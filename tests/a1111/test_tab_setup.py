"""The button "Set up rendering": what it says before, meanwhile and after."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zit_ext.errors import ServerError
from zit_ext.model_server.provisioned import Provisioned
from zit_ext.model_server.provisioning import Progress


@pytest.fixture
def setup(webui: Any) -> Any:
    return importlib.import_module("a1111_extension.tab_setup")


class Provisioning:
    """Says what a test gives it, one step for each `go`."""

    def __init__(self, *steps: Progress | Exception) -> None:
        self.steps = steps
        self.go = threading.Semaphore(0)
        self.begun = self.closed = 0

    def __call__(self, settings: Any) -> Iterator[Progress]:
        self.begun += 1
        try:
            for each in self.steps:
                assert self.go.acquire(timeout=60)
                if isinstance(each, Exception):
                    raise each
                yield each
        finally:
            self.closed += 1


def until(shown: Iterator[str], words: str) -> str:
    for each in shown:
        if words in each:
            return each
    raise AssertionError(f"{words} was never shown")


PLAN = Progress(phase="plan", words="An environment is made. The download is about 1.4 GB", total_bytes=1400)
HALF = Progress(phase="packages", words="installing torch", done_bytes=700 * 10**6, total_bytes=1400 * 10**6)
READY = Progress(
    phase="ready",
    words="ready: Python 3.11, torch 2.13, on cpu",
    made=Provisioned(kind="venv", executable="python3.11"),
)


def test_before_anything_is_made_the_page_says_where_it_goes_and_how_much_comes(setup):
    words = setup._words(False)

    assert "server-python" in words
    assert "GB" in words
    assert "goes on later" in words


def test_the_plan_then_the_bytes_then_that_it_is_ready(setup, monkeypatch):
    work = Provisioning(PLAN, HALF, READY)
    monkeypatch.setattr(setup, "provision", work)
    shown = setup._set_up()
    until(shown, "Looking at this machine")
    work.go.release()
    until(shown, "plan: An environment is made. The download is about 1.4 GB")
    work.go.release()
    half = until(shown, "700 MB of at most 1,400 MB")
    work.go.release()
    last = list(shown)[-1]

    assert "width:50.0%" in half
    assert "Rendering is set up" in last
    assert "ready: Python 3.11, torch 2.13, on cpu" in last
    assert "installing torch" not in last


def test_a_second_page_sees_the_same_run_and_stop_ends_it(setup, monkeypatch):
    work = Provisioning(PLAN, HALF, READY)
    monkeypatch.setattr(setup, "provision", work)
    first, second = setup._set_up(), setup._set_up()
    next(first)
    next(second)
    assert work.begun == 1
    assert "Press the button again to go on" in setup._stop()
    work.go.release()

    assert "Stopped." in list(first)[-1]
    assert "Stopped." in list(second)[-1]
    assert work.closed == 1


def test_what_went_wrong_is_said_with_its_remedy_and_the_button_works_again(setup, monkeypatch):
    work = Provisioning(PLAN, ServerError("the index <b> does not answer", "be online"))
    monkeypatch.setattr(setup, "provision", work)
    work.go.release(4)
    said = [list(setup._set_up())[-1] for _ in range(2)]

    assert all("the index &lt;b&gt; does not answer" in each and "be online" in each for each in said)
    assert all('class="zit-setup error"' in each for each in said)
    assert work.begun == 2


def test_a_fault_that_nobody_thought_of_is_shown_too(setup, monkeypatch, caplog):
    work = Provisioning(PLAN, ValueError("a strange <answer>"))
    monkeypatch.setattr(setup, "provision", work)
    work.go.release(2)
    said = list(setup._set_up())[-1]

    assert 'class="zit-setup error"' in said
    assert "ValueError: a strange &lt;answer&gt;" in said
    assert "could not be set up" in caplog.text


def test_a_python_that_renders_but_for_a_package_that_we_lend_it_is_set_up_first(
    webui, tmp_path, monkeypatch
):
    readiness = importlib.import_module("a1111_extension.readiness")
    monkeypatch.setattr(readiness, "this_python_fits", lambda: True)
    monkeypatch.setenv("ZIT_DATA_DIR", str(tmp_path / "share"))
    readiness.check()  # its own pluggy is found by a model server too

    lent = readiness.side_folder(tmp_path / "share") / "pluggy" / "__init__.py"
    monkeypatch.setattr(readiness.pluggy, "__file__", str(lent))
    with pytest.raises(ServerError, match="press Set up rendering"):
        readiness.check()
