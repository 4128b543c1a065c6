"""The package that `zit-ext plugins new NAME` writes: a plugin of a few lines, its tests, a README."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from pathlib import Path
from string import Template

from .. import __version__
from ..errors import RequestError
from ..plugin_checks import WrongError, check_name

FILES: Mapping[str, Template] = {
    "pyproject.toml": Template(
        """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "zit-$dashed"
version = "0.1.0"
description = "A plugin for zit_ext."
readme = "README.md"
requires-python = ">=3.10"
dependencies = ["zit_ext>=$version"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points.zit_ext]
$name = "$module"

[tool.setuptools]
py-modules = ["$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
addopts = ["-p", "zit_ext.testing_pytest", "--strict-markers"]
"""
    ),
    "$module.py": Template(
        '''\
"""Says what $name changes in a picture, so that the cache never answers with the wrong one."""

from __future__ import annotations

import os

from zit_ext import Request, hookimpl

fields_version = 1  # raise it when the same fields begin to mean other pixels

STRENGTH = float(os.environ.get("$variable") or 0)
"""How much of it there is; 0 is off."""


@hookimpl
def zit_fingerprint_fields(request: Request) -> dict[str, float]:
    """Return what changes the picture and does not stand in the request.

    Left out while it is off: entries from before the plugin stay warm.
    """
    return {"strength": STRENGTH} if STRENGTH else {}
'''
    ),
    "tests/test_$module.py": Template(
        """\
import $module
from zit_ext import Outcome
from zit_ext.testing import assert_field_changes_key, assert_same_key, make_request


def test_it_is_found_where_it_is_installed(zit_engine):
    report = zit_engine.reports["$name"]
    assert report.broken is None
    assert report.hooks == ("zit_fingerprint_fields",)


def test_its_strength_is_in_the_key(zit_engine, monkeypatch):
    off = zit_engine.fingerprint(make_request())
    monkeypatch.setattr($module, "STRENGTH", 0.5)
    assert_field_changes_key(off, zit_engine.fingerprint(make_request()), "$name.strength")


def test_turned_off_it_leaves_old_entries_warm(zit_engine, make_zit_engine):
    without = make_zit_engine(disabled_plugins="$name")
    assert_same_key(zit_engine.fingerprint(make_request()), without.fingerprint(make_request()))


def test_a_picture_made_with_it_does_not_answer_a_request_without(zit_engine, monkeypatch):
    zit_engine.generate(make_request())
    monkeypatch.setattr($module, "STRENGTH", 0.5)
    assert zit_engine.generate(make_request()).status.outcome is Outcome.MISS
    assert zit_engine.generate(make_request()).status.outcome is Outcome.HIT
"""
    ),
    "README.md": Template(
        """\
# zit-$dashed
A plugin for zit_ext. `$variable=0.5` turns it on.

    python -m pip install -e ".[test]"
    python -m pytest
    zit-ext plugins

The hooks, and what each failure costs, are in zit_ext's docs/plugins.md; testing is in
docs/testing-plugins.md.
"""
    ),
}


def write_plugin(name: str, into: Path) -> Path:
    """Write the package of a plugin of this name, and return its folder. Raises RequestError.

    Nothing is overwritten: the folder must not exist.
    """
    _check(name)
    folder = into / f"zit-{name.replace('_', '-')}"
    if folder.exists():
        raise RequestError("name", name, f"{folder} exists already; name another plugin, or another --into")
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "module": module_of(name),
        "variable": module_of(name).upper(),
        "version": __version__,
    }
    for path, text in FILES.items():
        target = folder / Template(path).substitute(words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.substitute(words), encoding="utf-8")
    return folder


def module_of(name: str) -> str:
    """Return the module that a plugin of this name lives in.

    >>> module_of("soft-focus")
    'zit_soft_focus'
    """
    return f"zit_{name.replace('-', '_')}"


def _check(name: str) -> None:
    try:
        check_name(name)
    except WrongError as error:
        raise RequestError("name", name, str(error)) from None
    if name != name.lower() or keyword.iskeyword(name) or "--" in name or name.endswith(("-", "_")):
        raise RequestError("name", name, "give small letters, with single - or _ between words")
