"""The pages on plugins: nothing is missing, nothing is wrong, and every example runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zit_ext import hookspecs, testing
from zit_ext.cli import plugin_template
from zit_ext.plugin_checks import HOOKS
from zit_ext.plugin_finding import BUILT_IN
from zit_ext.plugin_trouble import KINDS
from zit_ext.settings import Settings
from zit_ext.testing_engine import TrialEngine

ROOT = Path(__file__).parents[2]
PLUGINS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
TESTING = (ROOT / "docs" / "testing-plugins.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
THREADS = ("zit-engine", "zit-store", "zit-load", "zit-gpu")


def section(hook: str) -> str:
    """Return the section of the docs whose heading is the hook's signature."""
    heading = f"### {hook}({', '.join(HOOKS[hook])})\n"
    assert PLUGINS.count(heading) == 1, f"docs/plugins.md wants one section: {heading}"
    return re.split(r"^##", PLUGINS.split(heading)[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str) -> dict[str, str]:
    """Return the code blocks that are files: the first line of each is its name."""
    found = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(found) == len(dict(found)) == text.count("```python")
    return dict(found)


def test_what_plugins_import_in_docs_and_examples_is_promised_to_stay():
    promise = PLUGINS.split("**Never changes**")[1].split("**May be added**")[0]
    promised = set(re.findall(r"`(zit_ext[\w.]*)`", promise))
    assert {"zit_ext", "zit_ext.errors", "zit_ext.pipeline", "zit_ext.testing"} <= promised
    written = [*blocks(PLUGINS).values(), *blocks(TESTING).values()]
    written += [text.template for text in plugin_template.FILES.values()]
    examples = [*(ROOT / "examples" / "plugins").rglob("*.py")]
    assert len(examples) > 10
    written += [path.read_text(encoding="utf-8") for path in examples]
    imported = set()
    for text in written:
        for module, names in re.findall(r"^\s*from (zit_ext[\w.]*) import \(?([\w, ]+)", text, re.MULTILINE):
            inner = {f"{module}.{name.strip()}" for name in names.split(",")}
            imported |= inner if module == "zit_ext.models" else {module}
    known = {"zit_ext.models.torch_environment": "zit_ext.models.torch_environment.record"}
    assert {known.get(each, each) for each in imported} <= promised
    assert "zit_ext.pipeline" in imported


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test_of_its_name(hook):
    assert re.search(rf"^(async )?def test_hook_{hook}\w*\(", TESTS, re.MULTILINE)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_in_one_sentence_what_it_wants_and_on_which_thread(hook):
    first = (inspect.getdoc(getattr(hookspecs, hook)) or "").split("\n\n")[0].replace("\n", " ")
    said = re.fullmatch(r"[A-Z][^.]+\. Thread: (\S+)\.", first)
    assert said, first
    assert said[1] in THREADS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_that_says_everything(hook):
    text = section(hook)
    thread = re.search(r"Thread: (\S+)\.", inspect.getdoc(getattr(hookspecs, hook)) or "")
    assert f"Thread: {thread[1]}.\n" in text
    assert re.findall(r"^- `(\w+)`: ", text, re.MULTILINE) == list(HOOKS[hook])
    assert re.search(r"^(Return|What you return)", text, re.MULTILINE)
    assert re.search(r"^If it raises", text, re.MULTILINE)
    plugin, test = blocks(text)
    assert test == f"test_{plugin}"
    assert f"@hookimpl\ndef {hook}(" in blocks(text)[plugin]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_its_price_in_the_table(hook):
    assert len(re.findall(rf"^\| `{hook}` \| [^|]+ \|$", PLUGINS, re.MULTILINE)) == 1


def test_there_are_no_sections_of_hooks_that_do_not_exist():
    assert re.findall(r"^### (zit_\w+)", PLUGINS, re.MULTILINE) == list(HOOKS)


def test_built_in_plugins_are_listed():
    row = next(line for line in PLUGINS.splitlines() if line.startswith("| built in"))
    assert set(re.findall(r"`(\w+)`", row)) == BUILT_IN


@pytest.mark.parametrize("text", [PLUGINS, TESTING], ids=["plugins", "testing-plugins"])
def test_links_lead_somewhere(text):
    headings = [line.lstrip("# ") for line in text.splitlines() if re.match(r"#+ ", line)]
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (ROOT / "docs" / file).is_file(), target
        assert file or anchor in anchors, target


def test_settings_and_reasons_in_the_docs_exist():
    settings = {each.name for each in Settings.described()}
    named = set(re.findall(r"`((?:hook|plugin|disabled)_\w+)`", PLUGINS))
    reasons = {"plugin_broken", "plugin_slow"}
    assert named <= settings | reasons | {"plugin_name"}
    assert reasons <= named
    assert {each for each in settings if each.startswith("hook_")} <= named
    assert set(KINDS) == {"left_out", "failed", "nonsense", "slow", "bypassed", "hung"}


def test_the_page_on_testing_names_everything_there_is():
    offered = {name for name in vars(TrialEngine) if not name.startswith("_")} - {"close"}
    offered |= {"pipeline", "files", "settings", "plugins", "runtime"}
    table = TESTING.split("| of the engine | is |")[1].split("\n\n")[0]
    assert (
        set(re.findall(r"`(\w+)(?:\([^`]*\))?`", "".join(re.findall(r"^\|[^|]*\|", table, re.M)))) == offered
    )
    for name in set(testing.__all__) - {"FAKE_ENVIRONMENT", "fake_content"}:
        assert f"`{name}" in TESTING, name
    for fixture in ("zit_engine", "make_zit_engine"):
        assert f"| `{fixture}` |" in TESTING


def test_every_example_in_the_docs_runs(tmp_path):
    files = {name: text for page in (PLUGINS, TESTING) for name, text in blocks(page).items()}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    tests = [name for name in files if name.startswith("test_")]
    assert {name.removeprefix("test_") for name in tests} | {"video.py"} == set(files) - set(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "zit_ext.testing_pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= len(tests)


@pytest.mark.pipeline
def test_the_sketch_for_video_runs_on_tiny_weights(tmp_path, make_zit_engine):
    from PIL import Image

    from zit_ext import ModelRef, Outcome, Request

    from . import tiny_video

    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "video.py").write_text(blocks(PLUGINS)["video.py"], encoding="utf-8")
    model = ModelRef(source=str(tiny_video.build(tmp_path / "weights")))
    request = Request(
        prompt="a fox", seed=1, width=32, height=32, steps=2, max_sequence_length=64, model=model,
        media_type="image/webp", extra={"video.frames": 5},
    )  # fmt: skip
    engine = make_zit_engine(plugin_dir=str(folder), installed=False, real_weights=True, device="cpu")
    first, second = engine.generate(request), engine.generate(request)
    assert (first.status.outcome, second.status.outcome) == (Outcome.MISS, Outcome.HIT)
    assert first.data() == second.data()
    (tmp_path / "film.webp").write_bytes(first.data())
    with Image.open(tmp_path / "film.webp") as film:
        assert (film.n_frames, film.size) == (5, (32, 32))
    assert engine.troubles == []
