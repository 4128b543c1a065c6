"""Forge's modules, where they differ from AUTOMATIC1111's: weights, LoRAs, embeddings."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from .fake_webui import FakeWebui, Network, module


class FakeForge(FakeWebui):
    """One process of Forge. It reads a LoRA once for its path."""

    def __init__(self, folder: Path) -> None:
        self._read: dict[str, bytes] = {}
        self._asked: list[Any] = []
        super().__init__(folder)
        for name in ("used_config", "loaded_vae_file"):
            delattr(self.model, name)
        self.engine = SimpleNamespace(embeddings=SimpleNamespace(word_embeddings={}))
        self.model.text_processing_engine = self.engine
        self.model.extra_generation_params = {}
        self.model.current_lora_hash = "[]"
        inner = SimpleNamespace(
            storage_dtype="fp16",
            computation_dtype="fp16",
            predictor=SimpleNamespace(prediction_type="epsilon"),
        )
        self.model.forge_objects_original = SimpleNamespace(
            unet=SimpleNamespace(model=inner), vae=SimpleNamespace(vae_dtype="fp16")
        )
        self.data = self.modules["modules.sd_models"].model_data
        self.data.forge_loading_parameters = {"additional_modules": []}
        self.data.forge_hash = ""
        self.data.sd_model = SimpleNamespace(cond_stage_model=None)  # a stand-in until something is loaded

    def load_model(self) -> None:
        self.data.sd_model = self.model
        self.model.weights = self.checkpoint.read_bytes()
        for path in self.data.forge_loading_parameters["additional_modules"]:
            self.model.weights += Path(path).read_bytes()
        for told in self.callbacks.get("model_loaded", []):
            told(self.model)
        self.data.forge_hash = str(self.data.forge_loading_parameters)

    def choose(self, *modules: Path) -> None:
        """Choose a VAE or a text encoder: the next job loads it."""
        self.data.forge_loading_parameters = {"additional_modules": [str(each) for each in modules]}

    def begin_loras(self) -> None:
        super().begin_loras()
        self._asked = []
        self.model.current_lora_hash = "[]"

    def load_lora(self, name: str, strength: float = 1.0) -> None:
        known = self.modules["networks"].available_network_aliases[name]
        path = Path(known.filename)
        self.modules["networks"].loaded_networks.append(Network(name, path))  # its strengths stay at 1
        self._read.setdefault(str(path), path.read_bytes())
        self._asked.append([str(path), strength, strength, False])
        self.model.current_lora_hash = str(self._asked)

    def applied(self) -> list[tuple[bytes, Any]]:
        return [(self._read[path], strength) for path, strength, *_ in self._asked]

    def vectors(self) -> dict[str, Any]:
        return {name: each.vec for name, each in self.engine.embeddings.word_embeddings.items()}

    def told_by_encoding(self) -> dict[str, Any]:
        told: dict[str, Any] = self.model.extra_generation_params
        return told

    def _modules(self) -> dict[str, ModuleType]:
        made = super()._modules()
        made["modules.sd_hijack"].model_hijack = SimpleNamespace()
        made["backend"] = module(
            "backend",
            attention=module("backend.attention", attention_function=attention_pytorch),
            memory_management=module("backend.memory_management", VAE_ALWAYS_TILED=False),
        )
        for name in ("attention", "memory_management"):
            made[f"backend.{name}"] = getattr(made["backend"], name)
        for name in ("sd_checkpoint_cache", "sd_vae_checkpoint_cache"):
            del made["modules.shared"].opts.data_labels[name]
        return made


def attention_pytorch() -> None: ...
