"""Setting up says one line for each step, and shows that it lives; what pip says is in a file."""

from __future__ import annotations

import io

import pytest

from zit_ext.installing.environment import prepare
from zit_ext.installing.quietly import QUIET_SECONDS, Life
from zit_ext.installing.trouble import SetupError
from zit_ext.testing import FakeClock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(terminal):
    """Return what stood on the line, one after the other, without the blanks that wipe it."""
    return [each.strip() for each in terminal.getvalue().split("\r") if each.strip()]


def told(lines, *, stream=None, seconds=1.0):
    """Let a pip say these lines, each with the bytes that have arrived by then."""
    clock, said = FakeClock(0.0), []
    with Life("torch 2.13.0", said.append, stream=stream or io.StringIO(), clock=clock) as life:
        for line, downloaded in lines:
            clock.advance(seconds)
            life.sign(line, downloaded)
    return [*said, life.done()]


PIP = [
    ("Looking in indexes: https://index", 0),
    ("Collecting torch==2.13.0", 0),
    ("  Downloading torch-2.13.0-cp311-none-linux_x86_64.whl (104.2 MB)", 2_000_000),
    ("", 60_000_000),
    ("Collecting sympy (from torch==2.13.0)", 104_200_000),
    ("  Downloading sympy-1.14.0-py3-none-any.whl (6.3 MB)", 110_500_000),
    ("Installing collected packages: sympy, torch", 110_500_000),
    ("", 0),
    ("Successfully installed sympy-1.14.0 torch-2.13.0", 0),
]
DONE = "torch 2.13.0: done, 2 packages, 110 MB downloaded, 9 s."


def test_a_line_moves_on_a_terminal_and_is_gone_at_the_end():
    terminal = Terminal()
    assert told(PIP, stream=terminal) == [DONE]
    line = shown(terminal)
    assert line[2] == "torch 2.13.0: downloading torch 2.13.0 (104.2 MB), 2 MB so far, 3 s"
    assert line[3] == "torch 2.13.0: downloading torch 2.13.0 (104.2 MB), 60 MB so far, 4 s"
    assert line[-1] == "torch 2.13.0: unpacking 2 packages, 110 MB so far, 9 s"
    assert terminal.getvalue().rstrip("\r").endswith(" ")


def test_where_no_line_can_move_a_large_download_gets_one_and_a_small_one_none():
    assert told(PIP) == [
        "torch 2.13.0 ...",
        "  downloading torch 2.13.0 (104.2 MB), 2 MB so far, 3 s",
        DONE,
    ]


def test_where_no_line_can_move_something_is_said_now_and_then():
    silence = [("", 1_000_000 * number) for number in range(1, 5)]
    said = told(silence, seconds=QUIET_SECONDS)
    assert said[1:3] == [
        "  asking the package index, 1 MB so far, 30 s",
        "  asking the package index, 2 MB so far, 1 min 0 s",
    ]
    assert len(said) == 6


@pytest.mark.slow
def test_a_set_up_says_a_line_for_each_step_and_keeps_what_pip_said(checkout, capfd):
    said = []
    prepare(checkout, ["zimage"], torch_index=None, say=said.append)
    assert any(line.startswith("zit_ext and what it needs for zimage: done, ") for line in said)
    assert not any("Successfully installed" in line for line in said)
    assert capfd.readouterr() == ("", "")
    assert "Successfully installed torch" in (checkout.venv / "zit_ext-setup.log").read_text()


@pytest.mark.slow
def test_a_pip_that_fails_shows_its_end_and_names_the_file(checkout, capfd):
    with pytest.raises(SetupError) as failed:
        prepare(checkout, ["impossible"], torch_index=None, say=lambda words: None)
    log = checkout.venv / "zit_ext-setup.log"
    assert str(log) in failed.value.remedy
    shown = capfd.readouterr().err
    assert "No matching distribution found for nothing-such==1" in shown
    assert "No matching distribution found for nothing-such==1" in log.read_text()


@pytest.mark.slow
def test_all_that_pip_says_is_shown_to_who_asks_for_it(checkout, capfd):
    prepare(checkout, ["zimage"], torch_index=None, say=lambda words: None, verbose=True)
    assert "Successfully installed torch" in capfd.readouterr().out
