"""The example workflows fit the host as it is, and run in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zit_ext.codecs import Pixels, encode_png

from .host import ROOT, Host

WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def inputs_of(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, type and options of each input, in the order of the page."""
    for group in ("required", "optional"):
        for name in described["input_order"].get(group, []):
            kind, *options = described["input"][group][name]
            yield name, "COMBO" if isinstance(kind, list) else kind, options[0] if options else {}


def as_prompt(workflow: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Return a saved workflow as the page would post it; checks names, types and counts on the way."""
    links = {link[0]: link for link in workflow["links"]}
    nodes = {node["id"]: node for node in workflow["nodes"]}
    prompt = {}
    for node in workflow["nodes"]:
        described = info[node["type"]]
        outputs = [out["type"] for out in node["outputs"]]
        assert outputs == described["output"][: len(outputs)], node["type"]  # newer hosts may have more
        sockets = {socket["name"]: socket for socket in node["inputs"]}
        values = list(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for name, kind, options in inputs_of(described):
            if kind in WIDGETS and name not in sockets:
                if not values:
                    continue  # a newer host's, which has a default
                inputs[name] = values.pop(0)
                if options.get("control_after_generate"):
                    assert values.pop(0) in ("fixed", "increment", "decrement", "randomize")
                if options.get("image_upload"):
                    assert values.pop(0) == "image"
                continue
            link = links.get(sockets.pop(name)["link"])
            if link is not None:
                _, source, slot, target, place, link_type = link
                assert (target, node["inputs"][place]["name"]) == (node["id"], name)
                assert nodes[source]["outputs"][slot]["type"] == link_type
                assert "*" in (kind, link_type) or kind == link_type
                inputs[name] = [str(source), slot]
        assert not sockets, f"{node['type']} has no inputs {list(sockets)}"
        assert not values, f"{node['type']} has fewer widgets: {values}"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.fixture(scope="session")
def info(host: Host) -> dict[str, Any]:
    return host.get("/object_info")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_workflow_fits_what_the_host_says_of_its_nodes(host, info, path):
    as_prompt(json.loads(path.read_text(encoding="utf-8")), info)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_workflow_is_offered_with_a_small_picture(host, path):
    assert path.stem in host.get("/workflow_templates")["zit_ext"]
    status, picture = host.ask(f"/api/workflow_templates/zit_ext/{path.stem}.jpg")
    assert status == 200
    assert picture.startswith(b"\xff\xd8\xff")
    assert len(picture) < 60_000


@pytest.mark.parametrize("name", ["z-image-cached", "z-image-seeds-side-by-side", "z-image-from-an-image"])
def test_our_own_workflows_run_with_a_tiny_model(host, info, tiny_model, name):
    (host.base / "input" / "example.png").write_bytes(encode_png(Pixels(16, 16, 3, bytes(768))))
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    prompt = as_prompt(workflow, info)
    for node in prompt.values():
        if node["class_type"] == "ZitGenerate":
            node["inputs"] |= {"model": tiny_model, "width": 64, "height": 64}
    ran = host.run(prompt)
    assert ran.ending == "execution_success", ran.error


def test_every_node_has_a_page_and_words_in_each_language(host, info):
    ours = sorted(name for name in info if name.startswith("Zit") and not info[name].get("deprecated"))
    assert {"ZitGenerate", "ZitCacheAny"} <= set(ours)
    for language in ("en", "zh"):
        path = ROOT / "locales" / language / "nodeDefs.json"
        words = json.loads(path.read_text(encoding="utf-8"))
        assert sorted(words) == ours
        for name in ours:
            inputs = {each for each, _, _ in inputs_of(info[name])}
            assert set(words[name].get("inputs", {})) == inputs, (language, name)
            assert len(words[name]["outputs"]) == len(info[name]["output"])
    for name in ours:
        assert (ROOT / "comfy_nodes" / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8").strip()
        assert (ROOT / "comfy_nodes" / "web" / "docs" / name / "zh.md").read_text(encoding="utf-8").strip()


def test_the_host_serves_pages_and_words(host):
    docs = ROOT / "comfy_nodes" / "web" / "docs"
    pictures = {
        name
        for page in docs.rglob("*.md")
        for name in re.findall(r"!\[.+\]\((\S+)\)", page.read_text("utf-8"))
    }
    assert pictures == {path.name for path in docs.glob("*.webp")}
    assert pictures  # the page looks for them beside the English ones
    served = host.text("/extensions/zit_ext/docs/ZitCacheAny.md")
    assert served == Path(ROOT / "comfy_nodes/web/docs/ZitCacheAny.md").read_text(encoding="utf-8")
    assert "ZitCacheAny" in host.get("/i18n")["zh"]["nodeDefs"]
