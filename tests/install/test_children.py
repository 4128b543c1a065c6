"""Who stops a program stops what it started, however soon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from zit_ext.installing import children

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C comes when a program was started, and before anybody could have written down which."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(children.subprocess, "Popen", Popen)
    yield started
    for each in started:
        each.kill()
        each.wait()


def test_ctrl_c_at_the_start_of_a_program_ends_it(interrupted):
    with pytest.raises(KeyboardInterrupt):
        children.Listened(SLEEPS, environ=os.environ)
    (program,) = interrupted
    assert program.returncode is not None, "it was left behind"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_changes_no_signal_and_hears_its_program():
    heard = []

    def listen():
        heard.extend(children.Listened([sys.executable, "-c", "print('here')"], environ=os.environ).lines())

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(60)
    assert [line for line in heard if line] == ["here"]
