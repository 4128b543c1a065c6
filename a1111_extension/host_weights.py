"""What renders in the webui: checkpoint, LoRAs, embeddings, precision. `host.py` has the rest.

Forge keeps them elsewhere than AUTOMATIC1111, and applies LoRAs in its own way: each function here says
what is true of both. Facts without another source are read in their source (docs/hosts.md has versions).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modules import devices, extra_networks, sd_hijack, sd_models, sd_unet, sd_vae, shared


def is_forge() -> bool:
    """Tell whether this is Forge, which loads, patches and offloads with a program of its own."""
    return hasattr(sd_models.model_data, "forge_loading_parameters")


# The checkpoint


@dataclass(frozen=True)
class LoadedModel:
    """The weights in memory, and the files they came from."""

    model: Any
    files: Mapping[str, str]
    """Paths, by the part they play."""
    digest: str
    """What the webui says its checkpoint's content is: what was merged in memory has no file of its own, and
    whoever merges tells it apart by this."""


def loaded_model(model: Any = None) -> LoadedModel | None:
    """Return what is loaded; never loads anything (`shared.sd_model` would)."""
    model = sd_models.model_data.sd_model if model is None else model
    info = getattr(model, "sd_checkpoint_info", None)
    if info is None:
        return None  # Forge has a stand-in until something is loaded
    files = {"checkpoint": info.filename}
    digest = str(getattr(info, "sha256", None))
    if is_forge():
        # Its config is a part of the webui; what a NAME.yaml may change of it is in `precision`.
        modules = sd_models.model_data.forge_loading_parameters.get("additional_modules") or ()
        files |= {f"module.{index}": str(path) for index, path in enumerate(modules)}
        return LoadedModel(model, files, digest)
    files["config"] = str(getattr(model, "used_config", ""))
    vae = getattr(model, "loaded_vae_file", sd_vae.loaded_vae_file)
    return LoadedModel(model, {**files, "vae": vae} if vae else files, digest)


def is_up_to_date() -> bool:
    """Tell whether the files that are chosen are those that are loaded; Forge loads with the next job."""
    data = sd_models.model_data
    return not is_forge() or data.forge_hash == str(data.forge_loading_parameters)


def keeps_checkpoints_in_ram() -> bool:
    """Tell whether weights may come from a copy in RAM instead of the file."""
    options = ("sd_checkpoint_cache", "sd_vae_checkpoint_cache")
    return any(getattr(shared.opts, name, 0) > 0 for name in options)


def has_other_unet() -> bool:
    """Tell whether something else than the checkpoint's own UNet runs, such as TensorRT."""
    return sd_unet.current_unet is not None


def has_hypernetworks() -> bool:
    return bool(getattr(shared, "loaded_hypernetworks", ()))


# LoRAs


@dataclass(frozen=True)
class LoadedLora:
    """One LoRA as the webui applies it now."""

    name: str
    """What the webui knows its weights by while it holds them."""
    network: Any
    path: str
    mtime: float
    strengths: tuple[Any, ...]


def _networks() -> Any:
    """Return the built-in Lora extension's module: it is imported under this name."""
    module = sys.modules.get("networks")
    return module if hasattr(module, "loaded_networks") else None


def loras() -> list[LoadedLora]:
    """Return the LoRAs in effect, in their order.

    Forge notes what it has applied in one text, and nowhere else: the strengths of its networks say
    nothing, and what was applied stays so until another job asks for other LoRAs.
    """
    networks = _networks()
    if is_forge():
        by_path = {each.network_on_disk.filename: each for each in loras_in_memory()}
        return [
            LoadedLora(path, by_path.get(path), path, getattr(by_path.get(path), "mtime", 0.0), tuple(how))
            for path, *how in ast.literal_eval(sd_models.model_data.sd_model.current_lora_hash)
        ]
    return [
        LoadedLora(
            each.name,
            each,
            each.network_on_disk.filename,
            each.mtime,
            (each.te_multiplier, each.unet_multiplier, each.dyn_dim),
        )
        for each in (networks.loaded_networks if networks else ())
    ]


def loras_in_memory() -> list[Any]:
    networks = _networks()
    return [*networks.networks_in_memory.values(), *networks.loaded_networks] if networks else []


def lora_name(network: Any) -> str:
    """Return what the webui knows the weights of a network by: Forge reads a file once for its path."""
    return str(network.network_on_disk.filename if is_forge() else network.name)


def lora_file(name: str) -> str | None:
    """Return the file that a LoRA's name stands for; None if there is none."""
    networks = _networks()
    if networks is None:
        return None
    by_name = networks.available_networks
    known = (
        by_name if name.lower() in networks.forbidden_network_aliases else networks.available_network_aliases
    )
    found = known.get(name)
    return None if found is None else found.filename


def holds_loras_unseen() -> bool:
    """Tell whether the weights of a LoRA may be in memory where nobody can ask for them."""
    return is_forge()  # the last five files that it read


def loras_had_errors() -> bool:
    lora = extra_networks.extra_network_registry.get("lora")
    return bool(getattr(lora, "errors", None))


def extra_network_names() -> set[str]:
    return {*extra_networks.extra_network_registry, *extra_networks.extra_network_aliases}


# Beside them


def embeddings() -> dict[str, Any]:
    """Return the textual inversions in memory by name: tensors, or dicts of tensors."""
    if not is_forge():
        database = sd_hijack.model_hijack.embedding_db
        return {name: each.vec for name, each in database.word_embeddings.items()}
    found: dict[str, dict[str, Any]] = {}
    for part, engine in vars(sd_models.model_data.sd_model).items():
        known = getattr(getattr(engine, "embeddings", None), "word_embeddings", {})
        for name, each in known.items():
            found.setdefault(name, {})[part] = each.vec
    return dict(found)


def upscaler_file(name: str) -> str | None:
    """Return the file of an upscaler's weights, None for one that has none."""
    for each in shared.sd_upscalers:
        if each.name == name:
            return each.data_path or None
    return None


def precision() -> dict[str, str]:
    """Return what the numbers are computed in; an out-of-range VAE may change it in mid-job."""
    names = ("dtype", "dtype_vae", "dtype_unet", "dtype_inference", "unet_needs_upcast", "fp8", "device")
    found = {name: str(getattr(devices, name, None)) for name in names}
    attention = getattr(sd_hijack.model_hijack, "optimization_method", None)
    return {**found, "attention": str(attention), **(_of_forge() if is_forge() else {})}


def _of_forge() -> dict[str, str]:
    from backend import attention, memory_management

    parts = sd_models.model_data.sd_model.forge_objects_original
    model, predictor = parts.unet.model, parts.unet.model.predictor
    return {
        "attention": attention.attention_function.__name__,
        "storage": str(getattr(model, "storage_dtype", None)),
        "computation": str(getattr(model, "computation_dtype", None)),
        "vae": str(parts.vae.vae_dtype),
        "vae_is_tiled": str(memory_management.VAE_ALWAYS_TILED),
        "predicts": f"{type(predictor).__name__} {getattr(predictor, 'prediction_type', None)}",
    }


def device() -> str:
    return str(devices.device)


# Memory


def times_out_of_memory() -> int:
    """Return how often torch found no memory on its devices so far.

    A webui that goes on after that does so another way (Forge decodes in tiles, attention is sliced), and
    gives another picture. Source: `num_ooms` of `torch.cuda.memory_stats`, which counts what was caught too.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0
    devices_there = range(torch.cuda.device_count())
    return sum(torch.cuda.memory_stats(each).get("num_ooms", 0) for each in devices_there)
