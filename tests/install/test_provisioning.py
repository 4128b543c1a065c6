"""A Python for the model server, from wheels made on the spot: real environments, real pip, no network.

What renders is played by a fake diffusers, which says what it was imported with.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.install.fake_packages import BODIES
from zit_ext.cli import main
from zit_ext.errors import ServerError
from zit_ext.installing import pip
from zit_ext.installing.locking import only_one
from zit_ext.installing.places import site_packages, venv_python
from zit_ext.installing.stamp import installed_in
from zit_ext.installing.versions import plain
from zit_ext.model_server import probing, provisioning
from zit_ext.model_server.provisioned import folder_of, provisioned
from zit_ext.model_server.provisioning import Progress, provision
from zit_ext.model_server.starting import ServerPython
from zit_ext.settings import Settings

pytestmark = pytest.mark.slow  # each makes real environments

NO_PIP = "--without-pip"  # sooner made
PINNED = {
    line.partition("==")[0].replace("-", "_"): line.partition("==")[2]
    for line in probing.pinned(
        probing.Look(
            executable=Path(sys.executable),
            version=sys.version_info[:2],
            implementation="cpython",
            bits=64,
            pip=True,
            venv=True,
            packages={},
        )
    )
}


@pytest.fixture
def index(wheels: Path, make_wheel: Callable[..., Path]) -> Path:
    """All that pip can see: the pinned packages, small."""
    for name, version in PINNED.items():
        make_wheel(wheels, name, version, BODIES.get(name, ""))
    return wheels


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", data_dir=tmp_path / "Bäume & data")


@pytest.fixture
def a_host(tmp_path: Path, make_wheel: Callable[..., Path]) -> Callable[..., Path]:
    """Make the environment of a webui with these packages in it; return its Python."""

    def make(*options: str, **packages: str | tuple[str, str]) -> Path:
        venv = tmp_path / "a host's own"
        subprocess.run([sys.executable, "-m", "venv", *options, str(venv)], check=True, timeout=120)
        folder = site_packages(venv)
        assert folder is not None
        for name, told in packages.items():
            version, body = told if isinstance(told, tuple) else (told, BODIES.get(name, ""))
            with zipfile.ZipFile(make_wheel(tmp_path / "the host's", name, version, body)) as wheel:
                wheel.extractall(folder)
        return venv_python(venv)

    return make


def steps(settings: Settings, python: Path, **options: str) -> list[Progress]:
    return list(provision(settings, python=python, trial="diffusers", **options))


def phases(told: list[Progress]) -> list[str]:
    """Return each phase once, in its order."""
    return [
        each.phase
        for each, before in zip(told, [None, *told], strict=False)
        if not before or before.phase != each.phase
    ]


def files_of(python: Path) -> dict[str, int]:
    folder = python.parent.parent
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def asked(settings: Settings, code: str) -> str:
    """Return what the Python of the model server prints."""
    python = ServerPython.of(settings)
    environ = {**os.environ, **python.environ}
    done = subprocess.run(
        [str(python.executable), "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


VERSIONS = """
import torch, diffusers, transformers
print(torch.__version__, diffusers.__version__, transformers.__version__)
"""


def test_a_python_that_renders_is_used_as_it_is_and_nothing_is_installed(settings, a_host, wheels):
    have = {name: version for name, version in PINNED.items() if name != "diffusers"}
    host = a_host(**have, diffusers="0.40.0")
    before = files_of(host)

    told = steps(settings, host)

    assert phases(told) == ["plan", "trial", "ready"]
    assert "Nothing is downloaded" in told[0].words
    assert files_of(host) == before
    made = provisioned(settings)
    assert made is not None
    assert (made.kind, made.side) == ("own", "")
    assert ServerPython.of(settings) == ServerPython(host)
    assert asked(settings, VERSIONS).split()[1] == "0.40.0"


def test_a_host_with_a_new_torch_lends_it_and_the_rest_lies_beside(settings, a_host, index):
    host = a_host(torch="2.5.1", transformers="4.46.3", numpy="1.26.4", pillow="10.4.0")
    before = files_of(host)

    told = steps(settings, host)

    assert told[-1].phase == "ready"
    assert told[0].total_bytes == probing.OTHERS_BYTES
    made = provisioned(settings)
    assert made is not None
    assert made.kind == "side"
    beside = installed_in(Path(made.side))
    assert beside.items() >= {plain(name): PINNED[name] for name in PINNED if name != "torch"}.items()
    assert "torch" not in beside
    assert files_of(host) == before
    assert asked(settings, VERSIONS) == f"2.5.1 {PINNED['diffusers']} {PINNED['transformers']}"


def test_a_host_with_an_old_torch_gets_an_environment_of_its_own(settings, a_host, index, monkeypatch):
    host = a_host(NO_PIP, torch="2.1.2", transformers="4.30.2", diffusers="0.1")
    before = files_of(host)
    monkeypatch.setenv("PYTHONPATH", str(site_packages(host.parent.parent)))  # as some launchers leave it

    told = steps(settings, host)

    assert phases(told) == ["plan", "environment", "packages", "trial", "ready"]
    assert "torch 2.1.2 (2.5 is needed)" in told[0].words
    assert told[0].total_bytes > 200_000_000
    assert files_of(host) == before
    assert asked(settings, VERSIONS) == " ".join(
        PINNED[name] for name in ("torch", "diffusers", "transformers")
    )

    again = steps(settings, host)
    assert phases(again) == ["plan", "trial", "ready"]


def test_what_cannot_render_after_all_is_left_for_the_next_way(settings, a_host, index):
    have = {name: version for name, version in PINNED.items() if name not in ("torch", "diffusers")}
    host = a_host(**have, torch=("2.9.0", "broken = True"), diffusers="0.40.0")

    told = steps(settings, host)

    kinds = [phase for phase in phases(told) if phase in ("failed", "ready")]
    assert kinds == ["failed", "failed", "ready"]
    assert "cannot render: this torch is broken" in next(
        each.words for each in told if each.phase == "failed"
    )
    made = provisioned(settings)
    assert made is not None
    assert made.kind == "venv"
    assert not list(folder_of(settings).glob("side-*"))


PROGRAM = """
import contextlib, signal, sys
from pathlib import Path
from zit_ext.model_server.provisioning import provision
from zit_ext.settings import Settings
folder, data_dir, python, interrupted_at = sys.argv[1:]
settings = Settings(cache_dir=Path(folder) / "cache", data_dir=Path(data_dir))
of_packages = 0
with contextlib.closing(provision(settings, python=Path(python), trial="diffusers")) as steps:
    for step in steps:
        print(step.phase, step.words, flush=True)
        of_packages += step.phase == "packages"
        if of_packages == int(interrupted_at):
            signal.raise_signal(signal.SIGINT)
"""

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows both end it at once


def stopped_at(words: str, how: int, settings: Settings, host: Path, folder: Path) -> None:
    """Provision in a program of its own, and send it a signal when it says these words."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(settings.data_dir), str(host), "-1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert any(words in line for line in program.stdout)
        program.send_signal(how)
        program.wait(timeout=60)


def test_one_that_is_killed_half_way_goes_on_where_it_was(settings, a_host, index, tmp_path):
    host = a_host(NO_PIP, torch="2.1.2")
    stopped_at("installing the other packages", KILL, settings, host, tmp_path)
    assert provisioned(settings) is None
    (venv,) = folder_of(settings).glob("venv-*")
    folder = site_packages(venv)
    assert folder is not None
    torch = (folder / "torch" / "__init__.py").stat().st_mtime_ns

    told = steps(settings, host)

    assert told[-1].phase == "ready"
    assert (folder / "torch" / "__init__.py").stat().st_mtime_ns == torch
    assert "environment" not in phases(told)
    assert {path.name for path in folder_of(settings).iterdir()} == {
        "lock",
        "log.txt",
        "python.json",
        venv.name,
    }


def test_whoever_stops_reading_stops_it(settings, a_host, index):
    host = a_host(NO_PIP, torch="2.1.2")
    going = provision(settings, python=host, trial="diffusers")
    for step in going:
        if step.phase == "packages":
            break
    going.close()

    with only_one(folder_of(settings) / "lock", pytest.fail):  # also its pip would hold it
        assert provisioned(settings) is None
        assert not list(folder_of(settings).glob(".pip-*"))


def test_an_index_that_lacks_a_package_is_told_and_the_next_try_has_it(settings, a_host, index):
    host = a_host(NO_PIP, torch="2.1.2")
    hidden = index / "hidden"
    hidden.mkdir()
    (wheel,) = index.glob("peft-*.whl")
    os.replace(wheel, hidden / wheel.name)

    with pytest.raises(ServerError, match="no peft==0"):
        steps(settings, host)
    assert provisioned(settings) is None
    assert "peft" in (folder_of(settings) / "log.txt").read_text()

    os.replace(hidden / wheel.name, wheel)
    assert steps(settings, host)[-1].phase == "ready"


def test_two_at_a_time_wait_for_each_other(settings, a_host, index):
    host = a_host(NO_PIP, torch="2.1.2")
    first = provision(settings, python=host, trial="diffusers")
    assert next(first).phase == "plan"
    second = provision(settings, python=host, trial="diffusers")

    waiting = next(second)

    assert waiting.phase == "waiting"
    assert str(os.getpid()) in waiting.words
    list(first)
    assert phases(list(second))[-3:] == ["plan", "trial", "ready"]


def test_a_setting_outranks_what_was_provisioned_and_what_is_gone_does_not_count(settings, a_host, index):
    host = a_host(NO_PIP, torch="2.1.2")
    steps(settings, host)
    made = provisioned(settings)
    assert made is not None

    named = replace(settings, server_python="/usr/bin/python3")
    assert ServerPython.of(named) == ServerPython(Path("/usr/bin/python3"))
    assert ServerPython.of(settings).executable == Path(made.executable)

    (Path(made.executable).parent.parent / "pyvenv.cfg").write_text("home = /nowhere\n")
    assert provisioned(settings) is None
    assert ServerPython.of(settings) == ServerPython(Path(sys.executable))


@pytest.fixture
def plugin(tmp_path: Path, index: Path, make_wheel: Callable[..., Path], monkeypatch) -> Iterator[str]:
    """An installed package whose plugin opens pipelines."""
    body = "from zit_ext.hookspecs import hookimpl\n@hookimpl\ndef zit_open_pipeline(model): return None\n"
    folder = tmp_path / "this program's"
    with zipfile.ZipFile(make_wheel(index, "zit_int8", "1.2", body)) as wheel:
        wheel.extractall(folder)
    (folder / "zit_int8-1.2.dist-info" / "entry_points.txt").write_text("[zit_ext]\nint8 = zit_int8\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield "zit_int8"
    sys.modules.pop("zit_int8", None)


def test_plugins_that_act_on_renders_are_provisioned_too(settings, a_host, plugin):
    assert [each.requirement for each in probing.acting_packages(settings)] == ["zit_int8==1.2"]
    host = a_host(NO_PIP, torch="2.1.2")

    told = steps(settings, host)

    assert "zit_int8==1.2" in told[0].words
    made = provisioned(settings)
    assert made is not None
    assert made.kind == "venv"
    assert set(installed_in(Path(made.side))) == {"zit-int8"}
    assert str(made.proof["plugin"]).startswith(made.side)
    assert asked(settings, "import zit_int8; print(zit_int8.__version__)") == "1.2"


def test_what_pip_takes_away_while_we_count_costs_nothing(tmp_path, monkeypatch):
    for name in ("pip-unpack-1", "pip-unpack-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "torch.whl").write_bytes(b"12345")
    scandir = os.scandir

    def too_late(folder=".", *rest):
        if isinstance(folder, Path) and folder.name == "pip-unpack-1":
            shutil.rmtree(folder)
        return scandir(folder, *rest)

    monkeypatch.setattr(os, "scandir", too_late)

    assert pip.downloaded_bytes(tmp_path) == 5


def test_a_host_that_lacks_only_pluggy_gets_only_that(settings, a_host, index):
    have = {name: version for name, version in PINNED.items() if name not in ("pluggy", "diffusers")}
    host = a_host(**have, diffusers="0.40.0")

    steps(settings, host)

    made = provisioned(settings)
    assert made is not None
    assert (made.kind, set(installed_in(Path(made.side)))) == ("own", {"pluggy"})


def test_a_python_that_does_not_start_is_named(settings, tmp_path):
    with pytest.raises(ServerError, match="nowhere does not start"):
        steps(settings, tmp_path / "nowhere")


def test_the_command_says_what_it_does_and_where_the_server_runs_then(
    settings, a_host, index, capsys, monkeypatch, tmp_path
):
    host = a_host(NO_PIP, torch="2.1.2")
    monkeypatch.setattr(
        provisioning.provision,
        "__kwdefaults__",
        {**provisioning.provision.__kwdefaults__, "trial": "diffusers"},
    )
    options = ["--settings", f"data_dir={settings.data_dir}", "--cache-dir", str(settings.cache_dir)]
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))

    code = main(["server", "provision", "--python", str(host), "--json", *options])

    captured = capsys.readouterr()
    assert code == 0, captured.err
    told = json.loads(captured.out)
    assert told["kind"] == "venv"
    assert told["executable"] == str(ServerPython.of(settings).executable)
    assert captured.err.startswith("plan ")
    assert "The download is from" in captured.err.splitlines()[0]


if sys.platform != "win32":

    def test_ctrl_c_ends_pip_too(settings, a_host, index, tmp_path):
        host = a_host(NO_PIP, torch="2.1.2")
        arguments = [str(tmp_path), str(settings.data_dir), str(host), "2"]  # 1 is said before pip begins
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert told.returncode == -signal.SIGINT, told.stderr
        assert "installing torch" in told.stdout
        assert "other packages" not in told.stdout
        with only_one(folder_of(settings) / "lock", pytest.fail):
            assert not list(folder_of(settings).glob(".pip-*"))
