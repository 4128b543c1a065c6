"""What the native cache uses of the webui; the other `host_*.py` have the rest.

When the webui changes, these are the files to mend: no other imports its modules.

Verified with AUTOMATIC1111 1.10.1 and Forge (docs/hosts.md). Facts without another source are read in
their source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import (
    devices,
    extensions,
    paths,
    processing,
    script_callbacks,
    scripts,
    sd_samplers,
    shared,
)

from zit_ext import Settings
from zit_ext.errors import SettingError
from zit_ext.runtime import Runtime
from zit_ext.shared_runtime import running
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
    """Return this process's engine, started at the first call: settings are read then alone."""
    return running() or shared_runtime(settings=settings()[0], label=LABEL)


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


def require_seam() -> None:
    """Raise RuntimeError where a job does not sample as in A1111 and Forge, as in SD.Next."""
    lacking = [name for name in ("DecodedSamples", "decode_latent_batch") if not hasattr(processing, name)]
    if lacking:
        raise RuntimeError(f"it samples in another way: there is no {' and no '.join(lacking)}")


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


# Which webui this is


def version() -> dict[str, Any]:
    """Return which webui this is, and which extensions are on, as their files are now."""
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

Conditions = dict[str, list[Any]]
"""Encoded prompts, and what the webui compares to know them again, by the names of a job's attributes."""


def decode(p: Any, samples: Any) -> Any:
    """Return decoded samples, decoded as the webui would have done it after `p.sample`."""
    if getattr(samples, "already_decoded", False):
        return samples
    with devices.autocast():
        devices.test_for_nans(samples, "unet")
        return processing.decode_latent_batch(
            p.sd_model, samples, target_device=devices.cpu, check_for_nans=True
        )


def no_conditions(p: Any) -> Conditions:
    """Return empty lists in the place of those in which the webui keeps encoded prompts from job to job."""
    names = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")
    # Forge's are longer by what the encoding told the infotext.
    return {name: [None] * len(getattr(p, name)) for name in names if hasattr(p, name)}


def use_conditions(p: Any, kept: Conditions) -> None:
    """Have this job look for its encoded prompts here, and keep them here.

    Of those that it keeps itself, the webui does not ask whether a LoRA's file, an embedding or an option
    of the tokenizer has changed since.
    """
    for name, each in kept.items():
        setattr(p, name, each)


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
