"""The README's examples run as they stand."""

import re
from pathlib import Path

import pytest

from zit_ext.models import tiny

pytestmark = pytest.mark.pipeline

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"<!-- executed by tests/pipeline/test_readme.py -->\n```python\n(.*?)```", README, re.DOTALL
)


def test_there_are_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(3))
def test_an_example_of_the_readme_runs(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("ZIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIT_MODEL", str(tiny.build(tmp_path / "model")))
    # A picture of the official size takes the tiny model some seconds; the words stay the same.
    source = EXAMPLES[number].replace("seed=42)", "seed=42, width=64, height=64)")
    space: dict[str, object] = {}
    exec(compile(source, f"README example {number}", "exec"), space)  # noqa: S102 (our own README)
    if number == 0:
        assert (tmp_path / "lighthouse.png").read_bytes().startswith(b"\x89PNG")
        assert "fwd=miss; stored" in capsys.readouterr().out
    if number == 1:
        assert capsys.readouterr().out.count(" miss ") == 3
    if number == 2:
        assert space["zit_fingerprint_fields"](None) == {"attention_patch": "sage 2.1"}
