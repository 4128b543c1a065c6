"""`zit-ext` as a program: exit codes, signals, pipes, consoles, and what it does not import."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fake_program.py")
ROOT = Path(__file__).parents[2]
SECONDS = 60


@pytest.fixture
def environment(home, model):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture
def program(environment):
    def run(*arguments, side=16, pause=0.0, **more):
        command = [sys.executable, str(PROGRAM), str(side), str(pause), "0", *arguments]
        given = {"env": environment, "timeout": SECONDS, "capture_output": True, "check": False} | more
        return subprocess.run(command, **given)

    return run


def start(environment, *arguments, pause=0.2, close=0):
    command = [sys.executable, str(PROGRAM), "16", str(pause), str(close), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("module", ["zit_ext", "zit_ext.cli"])
@pytest.mark.parametrize("question", ["version", "--version"])
def test_the_package_is_a_program(environment, module, question):
    done = subprocess.run(
        [sys.executable, "-m", module, question],
        env=environment,
        capture_output=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"zit_ext ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["stats"], 0),
        (["--help"], 0),
        (["generate", "--help"], 0),
        (["nonsense"], 2),
        (["ls", "--nonsense"], 2),
        (["generate", "a boat", "--steps", "0"], 2),
        (["generate", "a boat", "--seed", "7", "--model", "no/where/at/all"], 1),
        (["config", "--settings", "max_entries=x"], 2),
        (["show", "abc"], 2),
        (["import", "nothing.zip"], 2),
    ],
)
def test_exit_codes_tell_wrong_questions_from_failures(program, arguments, code):
    done = program(*arguments)
    assert done.returncode == code, done.stderr
    *lines, imported = done.stderr.decode().splitlines()
    assert (len(lines), imported) == (0 if code == 0 else 1, "imported:")


def test_without_a_command_the_help_is_shown(program):
    done = program()
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.replace(b"imported:", b"").split() == program("--help").stdout.split()


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["ls"],
        ["explain", "a boat", "--seed", "7"],
        ["verify"],
        ["prune"],
        ["clear", "--yes"],
        ["config"],
        ["models"],
        ["doctor"],
        ["export", "all.zip"],
        ["generate", "a boat", "--seed", "7"],
    ],
)
def test_what_renders_nothing_imports_neither_torch_nor_numpy_nor_pillow(program, arguments):
    program("generate", "a boat", "--seed", "7")
    done = program(*arguments)
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == ["imported:"]


def test_a_picture_on_stdout_is_nothing_but_the_picture(program, home):
    program("generate", "a boat", "--seed", "7")
    done = program("generate", "a boat", "--seed", "7", "--out", "-")
    assert done.stdout == (home / "zit-7.png").read_bytes()
    key = json.loads(program("ls", "--json").stdout)[0]["key"]
    assert program("show", key, "--out", "-").stdout == done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console")
def test_ctrl_c_stops_the_render_and_leaves_neither_traceback_nor_file(environment, home):
    process = start(environment, "generate", "a boat", "--seed", "7", "--steps", "100")
    with process:
        assert process.stderr.readline() == b"step 0\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert out == b""
    assert [line for line in err.splitlines() if not line.startswith(b"step ")] == [
        b"zit-ext: interrupted",
        b"imported:",
    ]
    assert len(err.splitlines()) < 50
    assert list(home.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console")
def test_what_was_done_before_ctrl_c_is_kept(environment, home, program):
    process = start(
        environment, "generate", "a boat", "--seed", "7", "--steps", "2", "--count", "50", "--json"
    )
    with process:
        row = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert (home / row["file"]).is_file()
    again = program("generate", "a boat", "--seed", "7", "--steps", "2", "--json")
    assert json.loads(again.stdout)["outcome"] == "hit"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to the whole console")
def test_a_second_ctrl_c_waits_for_nothing(environment, program):
    arguments = ("generate", "a boat", "--seed", "7", "--steps", "100")
    with start(environment, *arguments, close=10 * SECONDS) as process:
        assert process.stderr.readline() == b"step 0\n"
        process.send_signal(signal.SIGINT)
        while (line := process.stderr.readline()) != b"closing\n":
            assert line.startswith(b"step ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert err.startswith(b"zit-ext: interrupted at once; ")
    assert b"Traceback" not in err
    assert program("verify").returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="no such pipe")
def test_a_reader_that_has_seen_enough_is_no_failure(environment, program):
    program("generate", "a boat", "--seed", "1", "--count", "5")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = program("ls", capture_output=False, stdout=closed, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [b"imported:"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_that_lacks_a_letter_shows_a_question_mark(environment, program, encoding):
    environment["PYTHONIOENCODING"] = encoding
    environment["PYTHONUTF8"] = "0"
    program("generate", "灯台 é", "--seed", "7")
    done = program("ls")
    assert done.returncode == 0
    assert (
        done.stdout.decode(encoding).rstrip().endswith("灯台 é".encode(encoding, "replace").decode(encoding))
    )
    assert json.loads(program("ls", "--json").stdout)[0]["prompt"] == "灯台 é"


@pytest.mark.skipif(os.name == "nt", reason="no limit on file sizes")
def test_a_full_disk_costs_the_hit_and_not_the_picture(program):
    def limit():
        import resource

        # SQLite's own files stay below this; a picture of 700 kB does not.
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

    done = program("generate", "a boat", "--seed", "7", "--out", "-", side=480, preexec_fn=limit)
    assert done.returncode == 0
    assert len(done.stdout) > 690_000
    err = done.stderr.decode()
    assert "warning: a result was answered, but is not kept" in err
    assert "Traceback" not in err
    assert json.loads(program("ls", "--json").stdout) == []


@pytest.mark.skipif(os.name == "nt", reason="no limit on file sizes")
def test_a_picture_that_cannot_be_written_is_named_and_leaves_no_torn_file(program, home):
    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))

    done = program("generate", "a boat", "--seed", "7", "--out", "boat.png", side=480, preexec_fn=limit)
    assert done.returncode == 1
    assert b"zit-ext: boat.png cannot be written (" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(home.iterdir()) == []
