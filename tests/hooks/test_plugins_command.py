"""`zit-ext plugins`: who takes part, what went wrong in any program, and a package to begin with."""

from __future__ import annotations

import json
import re

import pytest

from zit_ext.cli import main
from zit_ext.plugin_checks import HOOKS
from zit_ext.plugin_finding import BUILT_IN
from zit_ext.plugin_trouble import Troubles
from zit_ext.runtime import troubles_path
from zit_ext.settings import Settings


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command with no settings but these, and return its code, its output and its complaints."""
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("ZIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIT_PLUGIN_DIR", str(tmp_path / "plugins"))
    (tmp_path / "plugins").mkdir()

    def run(*arguments):
        code = main(["plugins", *arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


@pytest.fixture
def add(tmp_path):
    return lambda name, text: (tmp_path / "plugins" / f"{name}.py").write_text(text)


def test_every_plugin_is_listed_with_origin_hooks_and_state(cli, add, monkeypatch):
    good = "from zit_ext import hookimpl\nfields_version = 3\ntouches = ('audio/*',)\n@hookimpl\n"
    add("mark", good + "def zit_fingerprint_fields(): return {'a': 1}\n")
    add("torn", "1 / 0")
    add("unwanted", "raise SystemExit")
    monkeypatch.setenv("ZIT_DISABLED_PLUGINS", "unwanted")
    code, out, _ = cli("--json")
    rows = {row["name"]: row for row in json.loads(out)["plugins"]}
    assert code == 0
    assert set(rows) == BUILT_IN | {"mark", "torn", "unwanted"}
    assert {hook for row in rows.values() for hook in row["hooks"]} == set(HOOKS) - {"zit_make_room"}
    mark = rows["mark"]
    assert (mark["origin"], mark["fields_version"], mark["touches"], mark["state"]) == (
        "file mark.py", 3, ["audio/*"], "on",
    )  # fmt: skip
    assert rows["torn"]["state"] == "left out: ZeroDivisionError: division by zero"
    assert rows["unwanted"]["state"] == "disabled"


def test_what_to_do_about_a_broken_plugin_is_said(cli, add):
    add("torn", "1 / 0")
    code, out, _ = cli()
    assert code == 0
    assert "left out: torn." in out
    assert "ZIT_DISABLED_PLUGINS=torn" in out


def test_what_went_wrong_in_another_program_is_shown_and_forgotten(cli, tmp_path):
    path = troubles_path(Settings(cache_dir=tmp_path / "cache"))
    host = Troubles(path, where="comfyui")
    for _ in range(5):
        host.add(
            "tenant", "zit_fingerprint_fields", "failed", "zit_fingerprint_fields failed: KeyError: 'user'"
        )
    stack = '  File "host.py", line 1\n    ask()\n  File "zit_sloth.py", line 7\n    time.sleep(1000)\n'
    host.add("sloth", "zit_bypass_reason", "hung", f"zit_bypass_reason did not return; it is here:\n{stack}")
    _, out, _ = cli()
    assert re.search(r"comfyui +tenant +failed +5 +zit_fingerprint_fields failed: KeyError: 'user'", out)
    assert re.search(
        r"comfyui +sloth +hung +1 +zit_bypass_reason did not return; it is here: "
        r'File "zit_sloth.py", line 7: time.sleep\(1000\)$',
        out,
        re.MULTILINE,
    )
    assert cli("forget", "sloth")[1] == "1 forgotten\n"
    assert "sloth" not in cli()[1]
    assert cli("forget")[1] == "1 forgotten\n"
    assert json.loads(cli("--json")[1])["troubles"] == []


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"not json", b"[1, 2]", b'[{"plugin": 1}]', b"\xff\xfe", b"{}", b"[" * 200_000),
        *(b'[{"plugin": [], "hook": "", "kind": "", "words": "", "at": 1}]',),
        *(b'[{"plugin": "a", "hook": "", "kind": "", "words": 5, "at": 1}]',),
    ],
    ids=range(9),
)
def test_a_damaged_list_of_troubles_is_an_empty_one(cli, tmp_path, damage):
    path = troubles_path(Settings(cache_dir=tmp_path / "cache"))
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    code, out, _ = cli("--json")
    assert (code, json.loads(out)["troubles"]) == (0, [])
    Troubles(path).add("one", "", "left_out", "words")
    assert [row["plugin"] for row in json.loads(cli("--json")[1])["troubles"]] == ["one"]


def test_troubles_are_of_their_user_alone_and_bounded(tmp_path):
    path = tmp_path / "troubles.json"
    troubles = Troubles(path)
    for number in range(150):
        troubles.add(f"plugin{number}", "zit_make_room", "failed", "x" * 100_000)
    assert path.stat().st_mode & 0o077 == 0
    assert len(json.loads(path.read_text())) == 100
    assert path.stat().st_size < 1_000_000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (None, "zit-ext plugins new NAME"),
        ("a.b", "letters, digits, - and _"),
        ("../up", "letters, digits, - and _"),
        ("Shout", "small letters"),
        ("prompt", "belong to the engine"),
        ("trailing-", "single - or _"),
    ],
)
def test_a_name_that_no_plugin_can_have_is_refused_and_nothing_written(cli, tmp_path, name, complaint):
    code, _, err = cli("new", *([name] if name else []), "--into", str(tmp_path / "here"))
    assert code == 2
    assert complaint in err
    assert not (tmp_path / "here").exists()


def test_nothing_is_overwritten(cli, tmp_path):
    assert cli("new", "mark", "--into", str(tmp_path))[0] == 0
    (tmp_path / "zit-mark" / "zit_mark.py").write_text("mine")
    code, _, err = cli("new", "mark", "--into", str(tmp_path))
    assert (code, "exists already" in err) == (2, True)
    assert (tmp_path / "zit-mark" / "zit_mark.py").read_text() == "mine"


@pytest.mark.packaging
def test_what_it_writes_can_be_installed_and_passes_its_own_tests(cli, tmp_path, plugin_venv):
    code, out, _ = cli("new", "soft-focus", "--into", str(tmp_path), "--json")
    assert code == 0
    assert json.loads(out)["files"] == [
        "README.md", "pyproject.toml", "tests/test_zit_soft_focus.py", "zit_soft_focus.py",
    ]  # fmt: skip
    folder = tmp_path / "zit-soft-focus"
    with plugin_venv.with_plugin(folder):
        told = plugin_venv.test(folder)
        listed = plugin_venv.run(plugin_venv.python, "-m", "zit_ext.cli", "plugins")
    assert "4 passed" in told
    assert re.search(
        r"^soft-focus +package zit-soft-focus 0\.1\.0 +fingerprint_fields +1 +everything +on$", listed, re.M
    )
