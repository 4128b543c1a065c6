"""What tests of the native cache give to a job of the fake webui, and what they read from it."""

from __future__ import annotations

from types import SimpleNamespace


def outcome(done) -> str:
    (line,) = [each for each in done.comments if each.startswith("zit_ext: ")]
    return line.removeprefix("zit_ext: ").partition(",")[0]


def reason(done) -> str:
    (line,) = [each for each in done.comments if each.startswith("zit_ext: ")]
    return line.partition(", ")[2]


def lora(webui, data=b"lora", name="style"):
    path = webui.fake.write(f"lora/{name}.safetensors", data)
    webui.fake.modules["networks"].available_network_aliases[name] = SimpleNamespace(filename=str(path))
    return {"extra_network_data": {"lora": [(name, 1.0)]}}


def embed(webui, name, values):
    import torch

    database = webui.fake.modules["modules.sd_hijack"].model_hijack.embedding_db
    database.word_embeddings[name] = SimpleNamespace(vec=torch.tensor(values))


class Other(SimpleNamespace):
    """Something that has no one spelling."""


def choose(webui):
    from .fake_webui import Runner, Script

    runner = Runner()
    script = Script()
    script.filename, script.name = str(webui.fake.folder / "scripts" / "custom_code.py"), "custom code"
    runner.selectable_scripts.append(script)
    return {"scripts_value": runner, "script_args_value": [1]}
