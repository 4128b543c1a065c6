"""docs/cli.md shows what the program really says: its examples are run, in their order."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from zit_ext.cli import main, parser
from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import stop
from zit_ext.settings import Settings

pytestmark = pytest.mark.pipeline

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
PLACE = "/home/me/pictures"

# What differs from run to run and from machine to machine, and what stands for it.
VARYING = (
    (re.compile(r"just now"), "TIME ago"),
    (re.compile(r"\bnow\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d)\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? (B|kB|MB|GB|TB)\b"), "SIZE"),
    (re.compile(r"\bseed \d{5,}"), "seed N"),
    (re.compile(r"ttl=\d+|\b\d+\.\d{3,}(e-\d+)?\b"), "NUMBER"),
    # Of the doctor, only what it looks at: what it sees is another machine's.
    (re.compile(r"^(ok|warn|FAIL) +(\w+( \w+)?)  .*"), r"CHECK \2"),
    (re.compile(r"python \d[\w.+]*"), "python VERSION"),
    # Of the model server: who and where it is.
    (re.compile(r"\b(process|port) \d+"), r"\1 N"),
    (re.compile(r"^python +.*"), "python PATH"),
    (re.compile(r"^[\d-]+ [\d:,]+ INFO"), "WHEN INFO"),
    (re.compile(r" +"), " "),
)
KEY = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")


class KeyBook:
    """Numbers keys in the order in which they turn up, so that two machines' keys can be compared."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def number(self, text: str) -> str:
        return KEY.sub(lambda match: f"KEY{self._number(match[0][:12])}", text)

    def _number(self, key: str) -> int:
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key)


def examples() -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that the docs say it writes."""
    for block in re.findall(r"```console\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = example.rstrip("\n").split("\n")
            yield command, lines


def test_every_command_has_an_example():
    shown = {shlex.split(command)[1] for command, _ in examples()}
    below = next(action for action in parser()._actions if action.dest == "command")
    assert shown == set(below.choices)


@pytest.fixture
def server_ends(home, monkeypatch):
    """Whatever the examples come to, no server is left behind."""
    monkeypatch.setenv("ZIT_DATA_DIR", "data")
    yield
    asyncio.run(stop(ServerHome.of(Settings.load())))


def test_the_examples_say_what_the_program_says(home, tiny, server_ends, monkeypatch, capsys):
    shutil.copytree(tiny, home / "tiny-model")
    monkeypatch.setenv("ZIT_MODEL", "tiny-model")
    monkeypatch.setenv("ZIT_CACHE_DIR", "cache")
    monkeypatch.setenv("ZIT_CONFIG", "/home/me/.config/zit_ext/config.toml")
    monkeypatch.setenv("HF_HOME", "/home/me/.cache/huggingface")
    monkeypatch.delenv("ZIT_OFFLINE")
    documented, real = KeyBook(), KeyBook()
    for command, lines in examples():
        program, *arguments = shlex.split(command)
        assert program == "zit-ext"
        arguments = [_translated(each, documented, real) for each in arguments]
        main(arguments)
        captured = capsys.readouterr()
        said = (captured.err + captured.out).rstrip("\n")
        expected = [_comparable(line, documented) for line in lines]
        found = [
            _comparable(line.replace(str(home), PLACE).replace(os.sep, "/"), real)
            for line in said.split("\n")
        ]
        assert _fits(found, expected), f"{command}\nsays\n{said}\nand not\n" + "\n".join(lines)


def _translated(argument: str, documented: KeyBook, real: KeyBook) -> str:
    """Return the argument with the key that this machine has in the place of the documented one."""
    return real.keys[documented.keys.index(argument)] if argument in documented.keys else argument


def _comparable(line: str, keys: KeyBook) -> str:
    line = keys.number(line)
    for pattern, name in VARYING:
        line = pattern.sub(name, line)
    return line.rstrip()


def _fits(found: list[str], expected: list[str]) -> bool:
    """Tell whether the lines are the expected ones, where `...` stands for any number of lines.

    >>> _fits(["a", "b", "c"], ["a", "..."]), _fits(["a", "b", "c"], ["...", "b"])
    (True, False)
    """
    pattern = "".join("(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in expected)
    return re.fullmatch(pattern, "".join(line + "\n" for line in found)) is not None
