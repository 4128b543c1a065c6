"""Which weights can be named: those of the settings, those that are held, those that are found."""

from __future__ import annotations

import json
import struct

import pytest

from zit_ext.errors import RequestError
from zit_ext.found_weights import zimage_models
from zit_ext.http.catalogue import LOOK_SECONDS, Catalogue
from zit_ext.records import ModelRef
from zit_ext.settings import Settings

pytestmark = pytest.mark.http

TRANSFORMER = ("noise_refiner.0.attention_norm1.weight", "context_refiner.0.attention_norm1.weight")


def single_file(path, tensors):
    places = {name: [4 * number, 4 * number + 4] for number, name in enumerate(tensors)}
    header = json.dumps(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": place} for name, place in places.items()}
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * len(tensors)))


@pytest.fixture
def model_dir(tmp_path):
    root = tmp_path / "models"
    single_file(root / "diffusion_models" / "zit" / "turbo.safetensors", TRANSFORMER)
    single_file(root / "diffusion_models" / "other.safetensors", ("some.weight",))
    single_file(root / "loras" / "style.safetensors", ("lora.weight",))
    (root / "diffusion_models" / "broken.safetensors").write_bytes(b"no weights")
    folder = root / "diffusion_models" / "my model"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "ZImagePipeline"}', encoding="utf-8")
    return root


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_only_models_that_this_can_render_are_found(model_dir, tmp_path):
    settings = Settings(cache_dir=tmp_path, model_dirs=(model_dir,))
    assert zimage_models(settings, {"HF_HUB_CACHE": str(tmp_path / "hub")}) == ["my model", "zit/turbo"]


@pytest.mark.usefixtures("hub")
def test_what_is_found_and_what_is_held_is_listed_in_every_dialect(holding, model_dir, tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    (held / "model.safetensors").write_bytes(b"weights")
    served = holding(model="mine", model_dirs=str(model_dir))
    found = ["mine", "my model", "zit/turbo"]
    assert [each["id"] for each in served.get("/v1/models").json()["data"]] == found
    served.runtime.preload_blocking(ModelRef(source=str(held)))
    names = ["mine", "held", "my model", "zit/turbo"]
    assert [each["id"] for each in served.get("/v1/models").json()["data"]] == names
    assert served.get("/zit/v1/models").json()["names"] == names
    assert [each["title"] for each in served.get("/sdapi/v1/sd-models").json()] == names
    assert served.get("/v1/models/zit/turbo").json()["id"] == "zit/turbo"
    assert served.get("/v1/models/nothing").status_code == 404
    chosen = {"sd_model_checkpoint": "my model"}
    assert served.post("/sdapi/v1/options", chosen).status_code == 200
    assert served.post("/zit/v1/models/unload", {"model": "held"}).json() == {
        "unloaded": 1,
        "state": "unloaded",
    }
    assert str(tmp_path) not in served.get("/v1/models").text


def test_folders_are_looked_through_now_and_then_and_a_name_means_one_thing(tmp_path):
    now, looks = 0.0, []

    def find():
        looks.append(now)
        return ["deep/er/name", "mine"]

    catalogue = Catalogue(Settings(cache_dir=tmp_path, model="/data/mine"), find=find, clock=lambda: now)
    assert list(catalogue.names) == ["mine"]
    with pytest.raises(RequestError):
        catalogue.source_of("model", "deep/er/name")
    catalogue.look()
    catalogue.look(["/elsewhere/held"])

    assert dict(catalogue.names) == {
        "mine": "/data/mine",
        "held": "/elsewhere/held",
        "deep/er/name": "deep/er/name",
    }
    assert catalogue.source_of("model", "deep/er/name") == "deep/er/name"
    assert catalogue.name_of("deep/er/name") == "deep/er/name"
    assert catalogue.name_of("/data/mine") == "mine"
    assert len(looks) == 1
    now = LOOK_SECONDS
    catalogue.look()
    assert len(looks) == 2
    assert "held" not in catalogue.names
    catalogue.forget()
    catalogue.look()
    assert len(looks) == 3
