"""What the native cache uses of the webui; the other `host_*.py` have the rest.

When the webui changes, these are the files to mend: no other imports its modules.

Verified with AUTOMATIC1111 1.10.1 (docs/hosts.md). Facts without another source are read in its source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import html
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import (
    devices,
    extensions,
    extra_networks,
    paths,
    processing,
    script_callbacks,
    scripts,
    sd_hijack,
    sd_models,
    sd_samplers,
    sd_unet,
    sd_vae,
    shared,
)

from zit_ext import Settings
from zit_ext.errors import SettingError
from zit_ext.runtime import Runtime
from zit_ext.shared_runtime import shared as shared_runtime

__all__ = ["Script", "always_visible", "script_callbacks"]

Script = scripts.Script
always_visible = scripts.AlwaysVisible
LABEL = "a1111"
OPTION_PREFIX = "zit_"
SWITCH = "zit_native_cache"
_HOME = Path(__file__).resolve().parents[1]


# The engine and its settings


def settings() -> tuple[Settings, list[str]]:
    """Return the user's settings with those of the webui's page laid over them, and what is wrong there."""
    found = Settings.load()
    wrong = []
    for each in Settings.described():
        value = str(getattr(shared.opts, OPTION_PREFIX + each.name, "") or "").strip()
        if not value:
            continue
        try:
            found = found.with_values({each.name: value}, "the webui's settings page")
        except SettingError as error:
            wrong.append(str(error))
    # Where this webui keeps its weights: names of files mean those, beside what the settings say.
    folders = (*found.model_dirs, Path(paths.models_path))
    return dataclasses.replace(found, model_dirs=tuple(dict.fromkeys(folders))), wrong


def engine() -> Runtime:
    """Return this process's engine, started at the first call."""
    return shared_runtime(settings=settings()[0], label=LABEL)


def is_switched_on() -> bool:
    """Tell whether the native cache is on for every job, by the settings page or the command line."""
    return bool(getattr(shared.opts, SWITCH, False) or getattr(shared.cmd_opts, SWITCH, False))


def add_option(
    name: str, default: Any, label: str, info: str, section: tuple[str, str], *, by_api: bool
) -> None:
    """Add one line to the webui's settings; it keeps the value in its own config file.

    `by_api`: the webui's API may change it, too.
    """
    option = shared.OptionInfo(default, label, section=section, restrict_api=not by_api)
    shared.opts.add_option(name, option.info(html.escape(info)))


# The job


def was_stopped() -> bool:
    """Tell whether somebody interrupted or skipped this job: its picture is then half done."""
    return bool(shared.state.interrupted or shared.state.skipped)


def next_job() -> None:
    """Tell the progress bar that one part of the job is over."""
    shared.state.nextjob()


def options() -> dict[str, Any]:
    """Return every option with the value that counts now."""
    names = [*shared.opts.data_labels, *shared.opts.data]
    return {name: getattr(shared.opts, name) for name in dict.fromkeys(names)}


def command_line() -> dict[str, Any]:
    return dict(vars(shared.cmd_opts))


@dataclass(frozen=True)
class ScriptState:
    """One script of a job: where it comes from, what it takes part in, and its arguments."""

    title: str
    path: str
    """Relative to the webui for its own scripts, else absolute."""
    is_builtin: bool
    hooks: frozenset[str]
    """The methods it overrides."""
    arguments: tuple[Any, ...]
    defaults: tuple[Any, ...]


def scripts_of(p: Any, ours: Any) -> list[ScriptState]:
    """Return the scripts that take part in this job without having been chosen, but ours."""
    runner = p.scripts
    return [_state(script, p) for script in runner.alwayson_scripts if script is not ours]


def chosen_script(p: Any) -> ScriptState | None:
    """Return the script that was chosen under the picture, such as the X/Y/Z plot."""
    index = p.script_args[0] if p.script_args else 0
    chosen = p.scripts.selectable_scripts
    return _state(chosen[index - 1], p) if isinstance(index, int) and 0 < index <= len(chosen) else None


def _state(script: Any, p: Any) -> ScriptState:
    path = Path(script.filename).resolve()
    root = Path(paths.script_path).resolve()
    own = any(
        path.is_relative_to(root / folder)
        for folder in ("scripts", "modules/processing_scripts", "extensions-builtin")
    )
    hooks = frozenset(
        name
        for name in dir(scripts.Script)
        if not name.startswith("_")
        and callable(getattr(scripts.Script, name))
        and getattr(type(script), name, None) is not getattr(scripts.Script, name, None)
    )
    return ScriptState(
        title=str(script.name or path.name),
        path=path.relative_to(root).as_posix() if own else path.as_posix(),
        is_builtin=own,
        hooks=hooks,
        arguments=tuple((p.script_args or [])[script.args_from or 0 : script.args_to or 0]),
        defaults=_defaults(script),
    )


def _defaults(script: Any) -> tuple[Any, ...]:
    """Return what a script's program has for its arguments while nobody touches it.

    Not the values of its controls: a user may have saved others as defaults (`ui-config.json`), such as
    the script being on. The description for the API is made before those are read.
    """
    described = getattr(getattr(script, "api_info", None), "args", None) or ()
    found = []
    for control, told in zip(script.controls or (), described, strict=False):
        value = getattr(told, "value", None)
        names = list(getattr(told, "choices", None) or ())
        # Some lists hand over the number of what is chosen.
        is_index = getattr(control, "type", None) == "index" and value in names
        found.append(names.index(value) if is_index else value)
    return tuple(found)


# What renders


@dataclass(frozen=True)
class LoadedModel:
    """The checkpoint in memory, and the files it came from."""

    model: Any
    checkpoint: str
    vae: str | None
    config: str


def loaded_model(model: Any = None) -> LoadedModel | None:
    """Return what is loaded; never loads anything (`shared.sd_model` would)."""
    model = sd_models.model_data.sd_model if model is None else model
    if model is None:
        return None
    vae = getattr(model, "loaded_vae_file", sd_vae.loaded_vae_file)
    return LoadedModel(model, model.sd_checkpoint_info.filename, vae, str(getattr(model, "used_config", "")))


def keeps_checkpoints_in_ram() -> bool:
    """Tell whether weights may come from a copy in RAM instead of the file."""
    return shared.opts.sd_checkpoint_cache > 0 or shared.opts.sd_vae_checkpoint_cache > 0


@dataclass(frozen=True)
class LoadedLora:
    """One LoRA as the webui applies it now."""

    name: str
    network: Any
    path: str
    mtime: float
    strengths: tuple[Any, ...]


def _networks() -> Any:
    """Return the built-in Lora extension's module: it is imported under this name."""
    module = sys.modules.get("networks")
    return module if hasattr(module, "loaded_networks") else None


def loras() -> list[LoadedLora]:
    """Return the LoRAs in effect, in their order."""
    networks = _networks()
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


def loras_had_errors() -> bool:
    lora = extra_networks.extra_network_registry.get("lora")
    return bool(getattr(lora, "errors", None))


def has_hypernetworks() -> bool:
    return bool(getattr(shared, "loaded_hypernetworks", ()))


def extra_network_names() -> set[str]:
    return {*extra_networks.extra_network_registry, *extra_networks.extra_network_aliases}


def embeddings() -> dict[str, Any]:
    """Return the textual inversions in memory by name: tensors, or dicts of tensors."""
    return {name: each.vec for name, each in sd_hijack.model_hijack.embedding_db.word_embeddings.items()}


def upscaler_file(name: str) -> str | None:
    """Return the file of an upscaler's weights, None for one that has none."""
    for each in shared.sd_upscalers:
        if each.name == name:
            return each.data_path or None
    return None


def has_other_unet() -> bool:
    """Tell whether something else than the checkpoint's own UNet runs, such as TensorRT."""
    return sd_unet.current_unet is not None


def precision() -> dict[str, str]:
    """Return what the numbers are computed in; an out-of-range VAE may change it in mid-job."""
    names = ("dtype", "dtype_vae", "dtype_unet", "dtype_inference", "unet_needs_upcast", "fp8", "device")
    found = {name: str(getattr(devices, name, None)) for name in names}
    return {**found, "attention": str(sd_hijack.model_hijack.optimization_method)}


def device() -> str:
    return str(devices.device)


@functools.cache
def version() -> dict[str, Any]:
    """Return which webui this is, and which extensions are on: what they hold was imported at the start."""
    from modules import launch_utils

    others = [each for each in extensions.active() if Path(each.path).resolve() != _HOME]
    return {
        "webui": [launch_utils.git_tag(), launch_utils.commit_hash()],
        "extensions": sorted([each.name, _programs_in(each.path)] for each in others),
    }


def _programs_in(folder: str) -> list[list[Any]]:
    """Return path, size and time of each program of an extension."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith((".", "__")) and each != "venv"]
        for path in (Path(place, name) for name in files if name.endswith(".py")):
            with contextlib.suppress(OSError):
                seen = path.stat()
                found.append([path.relative_to(folder).as_posix(), seen.st_size, seen.st_mtime_ns])
    return sorted(found)


# The seam


def decode(p: Any, samples: Any) -> Any:
    """Return decoded samples, decoded as the webui would have done it after `p.sample`."""
    if getattr(samples, "already_decoded", False):
        return samples
    with devices.autocast():
        devices.test_for_nans(samples, "unet")
        return processing.decode_latent_batch(
            p.sd_model, samples, target_device=devices.cpu, check_for_nans=True
        )


def forget_conditions(p: Any) -> None:
    """Have this job encode its prompts itself.

    The webui keeps encoded prompts from job to job, and does not ask whether a LoRA's file, an embedding
    or an option of the tokenizer has changed since.
    """
    for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc"):
        if hasattr(p, name):
            setattr(p, name, [None, None])


def stacked(samples: Any) -> Any:
    """Return samples as one tensor, with the batch as its first dimension."""
    import torch  # here alone: `/zit/*` needs none

    return torch.stack(list(samples))


def decoded(tensors: Any) -> Any:
    """Return tensors in the form that the webui takes for decoded samples."""
    samples = processing.DecodedSamples()
    samples.extend(tensors)
    return samples


def leave_sampler(p: Any, eta: Any) -> None:
    """Leave the sampler that a run would have left: the infotext asks it for its eta."""
    p.sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
    p.sampler.eta = eta


@functools.cache
def process_started() -> float:
    """Return when this process began, as a Unix time: nothing was loaded before it. 0: nobody knows."""
    try:
        import psutil  # the webui itself requires it
    except ImportError:
        return 0.0
    return float(psutil.Process().create_time())
