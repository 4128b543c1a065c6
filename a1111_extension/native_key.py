"""What a batch of txt2img is made of: everything that changes its samples, or why nobody can tell.

The rule: attributes of the job, options and command line are all in the key, but for a list of names
that are known to change nothing (convert.py). Weights are in it by their content.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zit_ext.fingerprint import canonical_bytes, fingerprint
from zit_ext.models import torch_environment
from zit_ext.models.installation import packages
from zit_ext.models.weight_files import SeenFile
from zit_ext.records import FieldValue, Fingerprint

from . import convert, host, host_weights
from .provenance import Provenance, UntraceableError

SCHEMA = 1
"""Raise it when equal fields would no longer mean equal samples."""

_VISIBLE_IN_THE_JOB = frozenset(
    {
        "modules/processing_scripts/comments.py",
        "modules/processing_scripts/refiner.py",
        "modules/processing_scripts/sampler.py",
        "modules/processing_scripts/seed.py",
        "extensions-builtin/extra-options-section/scripts/extra_options_section.py",
        "extensions-builtin/hypertile/scripts/hypertile_script.py",
    }
)
"""Scripts whose whole effect is in the job or the options by the time that samples are made."""
_TOLD_BY_ARGUMENTS = (
    "scripts/",
    "modules/processing_scripts/",
    *("extensions-builtin/extra-options-section/", "extensions-builtin/soft-inpainting/"),
    *("extensions-builtin/hypertile/", "extensions-builtin/sd_forge_freeu/"),
    *("extensions-builtin/sd_forge_kohya_hrfix/", "extensions-builtin/sd_forge_neveroom/"),
    *("extensions-builtin/sd_forge_perturbed_attention/", "extensions-builtin/sd_forge_stylealign/"),
)
"""The webui's own scripts whose effect is told by their arguments. Others of Forge's read models of their
own, or keep something from job to job."""
_MAKE_JOBS = frozenset({"scripts/xyz_grid.py", "scripts/prompt_matrix.py", "scripts/prompts_from_file.py"})
"""Scripts that make ordinary jobs, one after the other."""
_AFTER_THE_SEAM = frozenset(
    {
        *("title", "show", "ui", "elem_id", "describe", "before_component", "after_component"),
        *("on_before_component", "on_after_component", "postprocess", "postprocess_batch"),
        *("postprocess_batch_list", "postprocess_image", "postprocess_maskoverlay"),
        "postprocess_image_after_composite",
    }
)
"""What a script may do to pictures when the samples are made already: on a hit it does it again."""
_LORA = frozenset({"lora", "lyco"})


class BypassedError(Exception):
    """This batch is neither looked up nor kept. `name` is to count by, the words are for the user."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = name


@dataclass(frozen=True)
class Question:
    """The fields of one batch. Files are named by the part that they play."""

    fields: Mapping[str, FieldValue]
    files: Mapping[str, SeenFile]
    may_write_infotext: bool
    """Encoding the prompts tells the infotext something: it must not be skipped."""
    checked: bytes = field(repr=False)
    """What must be the same after the render: options and precision."""

    def conditions(self) -> bytes:
        """Return what the encoded prompts depend on: all but the seeds."""
        words = [f"{each.path} {each.stat_words}" for each in self.files.values()]
        job = {name: each for name, each in self.fields["job"].items() if name not in ("seeds", "subseeds")}
        others = {name: each for name, each in self.fields.items() if name not in ("job", "noise_seeds")}
        return self.checked + canonical_bytes([words, job, others])

    def fingerprint(self, digests: Mapping[SeenFile, str]) -> Fingerprint | None:
        """Return the identity, None while one of the files is not hashed yet."""
        if any(each not in digests for each in self.files.values()):
            return None
        content = {part: digests[each] for part, each in self.files.items()}
        return fingerprint({**self.fields, "files": content})


def question(p: Any, ours: Any, provenance: Provenance) -> Question:
    """Return what this batch is made of. Raises BypassedError.

    To be asked when prompts, seeds and LoRAs are final: where the webui sets up the conditions.
    """
    try:
        options = host.options()
        _must_be_ordinary(p, options)
        option_fields = convert.option_fields(options, host.OPTION_PREFIX)
        precision = host_weights.precision()
        files, weights = _weights(p, provenance)
        texts = _texts(p)
        vectors = host_weights.embeddings()
        named = convert.named_in(vectors, texts)
        fields = {
            "schema": SCHEMA,
            "kind": "a1111.txt2img",
            "namespace": convert.namespace(host.engine().settings.namespace, host.LABEL),
            "job": convert.job_fields(vars(p)),
            # As typed: what a tag such as <lora:name:1:how=much> says beyond the strength is for extensions.
            "typed": convert.spelled(_typed(p)),
            # Noise is drawn for these, whatever a script did to the batch's own seeds.
            "noise_seeds": convert.spelled(_slice(p, p.all_seeds)),
            "token_merging": [p.get_token_merging_ratio(), p.get_token_merging_ratio(for_hr=True)],
            "sampled_by": [type(p).__qualname__, type(p).sample.__module__, type(p).setup_conds.__module__],
            "scripts": _script_fields(p, ours),
            "options": option_fields,
            "command_line": convert.command_line_fields(host.command_line()),
            "weights": weights,
            "embeddings": convert.spelled({name: vectors[name] for name in named}),
            "webui": list(_versions),
            "precision": precision,
            "environment": torch_environment.record({}, host_weights.device()),
            "packages": _packages_digest(),
        }
        return Question(
            fields,
            files,
            may_write_infotext=bool(named) or _encoding_tells(options, texts),
            checked=_checked(option_fields, precision),
        )
    except convert.UnspellableError as error:
        raise BypassedError("unhashable", f"{error}, which cannot be part of a key") from error
    except UntraceableError as error:
        raise BypassedError("untraceable", str(error)) from error


def state() -> bytes:
    """Return what a render must not have changed: options, precision and torch's switches."""
    return _checked(convert.option_fields(host.options(), host.OPTION_PREFIX), host_weights.precision())


def _checked(options: Mapping[str, FieldValue], precision: Mapping[str, str]) -> bytes:
    return canonical_bytes([options, precision, torch_environment.live_flags()])


def _must_be_ordinary(p: Any, options: Mapping[str, Any]) -> None:
    if p.firstpass_image is not None:
        # Its latents are drawn from a generator that nobody has seeded.
        raise BypassedError("hires_of_picture", "hires of a finished picture differs from run to run")
    for info in (p.refiner_checkpoint_info, getattr(p, "hr_checkpoint_info", None)):
        if info is not None:
            # Which VAE and config come with it is decided when it is loaded: in mid-render.
            raise BypassedError("second_model", "a second checkpoint is loaded while rendering")
    if p.enable_hr and p.latent_scale_mode is None:
        # The picture is encoded with noise from torch's own generator.
        if options.get("randn_source") == "NV":
            raise BypassedError("hires_nv", "hires with an upscaler and the NV generator is not repeatable")
        if options.get("live_previews_enable") and options.get("show_progress_type") == "TAESD":
            raise BypassedError("hires_preview", "hires with an upscaler and TAESD previews")
    if p.enable_hr and options.get("save_images_before_highres_fix") and p.save_samples():
        raise BypassedError("hires_saving", "pictures before hires are saved while rendering")
    modules = getattr(p, "hr_additional_modules", None)
    if p.enable_hr and modules is not None and "Use same choices" not in modules:
        raise BypassedError("second_model", "other modules are loaded for hires while rendering")
    for part in ("sd_vae_encode_method", "sd_vae_decode_method"):
        if options.get(part, "Full") != "Full":
            raise BypassedError("approximate_vae", f"{part} is {options[part]}")
    if host_weights.is_forge() and any(p.get_token_merging_ratio(for_hr=each) for each in (False, True)):
        # Which tokens are merged is drawn from torch's own generator (backend/misc/tomesd.py).
        raise BypassedError("token_merging", "Forge merges tokens at random, other ones in each run")
    hypertile = ("hypertile_enable_unet", "hypertile_enable_unet_secondpass", "hypertile_enable_vae")
    if any(options.get(each) for each in hypertile):
        raise BypassedError("hypertile", "Hypertile's tiles depend on the pictures before")
    if host_weights.has_other_unet():
        raise BypassedError("other_unet", "another UNet than the checkpoint's is in use")
    if host_weights.has_hypernetworks():
        raise BypassedError("hypernetwork", "a hypernetwork is in use")


# Scripts


def _script_fields(p: Any, ours: Any) -> list[FieldValue]:
    chosen = host.chosen_script(p)
    if chosen is not None and chosen.path not in _MAKE_JOBS:
        raise BypassedError("unknown_script", f"the script {chosen.title} may do anything")
    fields: list[FieldValue] = []
    for script in host.scripts_of(p, ours):
        hooks = script.hooks - _AFTER_THE_SEAM
        if not hooks or script.path in _VISIBLE_IN_THE_JOB:
            continue
        if script.is_builtin and script.path.startswith(_TOLD_BY_ARGUMENTS):
            fields.append([script.path, convert.spelled(script.arguments, script.title)])
            continue
        if "post_sample" in hooks:
            raise BypassedError("unknown_script", f"{script.title} works on samples that are not decoded")
        if not _same(script.arguments, script.defaults):
            raise BypassedError("unknown_script", f"{script.title} is in use, and may change the model")
        # Switched off, as far as its arguments say; that it is there counts all the same.
        fields.append([script.path, sorted(hooks), [_spelled_or_default(each) for each in script.arguments]])
    return fields


def _spelled_or_default(argument: Any) -> FieldValue:
    try:
        return convert.spelled(argument)
    except convert.UnspellableError:
        return {"default": type(argument).__qualname__}


def _same(arguments: tuple[Any, ...], defaults: tuple[Any, ...]) -> bool:
    return len(arguments) == len(defaults) and all(map(_equal, arguments, defaults))


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return canonical_bytes(convert.spelled(one)) == canonical_bytes(convert.spelled(other))
    except convert.UnspellableError:
        return type(one) is type(other) and one == other


# Weights


def _weights(p: Any, provenance: Provenance) -> tuple[dict[str, SeenFile], FieldValue]:
    loaded = host_weights.loaded_model()
    if loaded is None:
        raise BypassedError("no_model", "no checkpoint is loaded")
    if not host_weights.is_up_to_date():
        raise BypassedError("no_model", "another checkpoint was chosen while this one renders")
    files = {part: provenance.file_of(loaded.model, path) for part, path in loaded.files.items()}
    loras = _loras(p, files, provenance)
    _upscaler(p, files, provenance)
    return files, {"checkpoint": loaded.digest, "loras": loras}


def _loras(p: Any, files: dict[str, SeenFile], provenance: Provenance) -> FieldValue:
    networks = [
        ("first", p.extra_network_data or {}),
        ("hires", getattr(p, "hr_extra_network_data", None) or {}),
    ]
    for _, data in networks:
        for name, each in data.items():
            if name not in _LORA and each and name in host_weights.extra_network_names():
                raise BypassedError(
                    "unknown_network", f"<{name}:...> in the prompt is not known to the cache"
                )
    fields: list[FieldValue] = []
    for index, lora in enumerate(host_weights.loras()):
        seen = provenance.file_of(lora.network, lora.path)
        if abs(seen.mtime_ns / 1e9 - lora.mtime) > 1e-6:  # the same number, by two ways of division
            raise UntraceableError(f"the LoRA {lora.name} has changed since it was loaded")
        # The webui compares names (Forge: paths) and strengths, and leaves layers as they are if those are
        # the same.
        provenance.must_be_first(lora.name, seen)
        files[f"lora.{index}"] = seen
        fields.append(convert.spelled(lora.strengths))
    in_memory = {each.network_on_disk.filename: each for each in host_weights.loras_in_memory()}
    if p.enable_hr:
        asked = [each for name, items in networks[1][1].items() if name in _LORA for each in items]
        for index, each in enumerate(asked):
            name = str(each.positional[0])
            path = host_weights.lora_file(name)
            if path is not None:
                held = in_memory.get(path)
                if held is not None:
                    seen = provenance.file_of(held, path)
                elif host_weights.holds_loras_unseen():
                    seen = provenance.file_since_start(path)
                else:
                    seen = provenance.file_now(path)
                provenance.must_be_first(name if held is None else host_weights.lora_name(held), seen)
                files[f"hires_lora.{index}"] = seen
            fields.append(["hires", convert.spelled(each.items), path is not None])
    return fields


def _upscaler(p: Any, files: dict[str, SeenFile], provenance: Provenance) -> None:
    if p.enable_hr and p.latent_scale_mode is None and p.hr_upscaler not in (None, "None"):
        path = host_weights.upscaler_file(p.hr_upscaler)
        if path is not None:
            # Some are kept in memory once they are loaded, and nobody can ask which.
            files["upscaler"] = provenance.file_since_start(path)


# Prompts


def _texts(p: Any) -> list[str]:
    prompts = [*p.prompts, *p.negative_prompts]
    if p.enable_hr:
        prompts += [*p.hr_prompts, *p.hr_negative_prompts]
    return [str(each) for each in prompts]


def _typed(p: Any) -> list[Any]:
    texts = [p.all_prompts, p.all_negative_prompts]
    if p.enable_hr:
        texts += [p.all_hr_prompts, p.all_hr_negative_prompts]
    return [_slice(p, each) for each in texts]


def _encoding_tells(options: Mapping[str, Any], texts: Iterable[str]) -> bool:
    marked = any("(" in each or "[" in each for each in texts)
    return (marked and options.get("emphasis", "Original") != "Original") or bool(
        options.get("use_old_scheduling") or options.get("use_old_emphasis_implementation")
    )


def _slice(p: Any, values: Any) -> list[Any]:
    return list(values[p.iteration * p.batch_size : (p.iteration + 1) * p.batch_size])


_versions: list[str] = []
"""What ran in this process: more than one, if extensions changed before a "Reload UI"."""


def note_version() -> None:
    """Note which webui and extensions run now: to be called whenever the webui has run their scripts."""
    now = hashlib.sha256(canonical_bytes(convert.spelled(host.version()))).hexdigest()
    if now not in _versions:
        _versions.append(now)


@functools.cache
def _packages_digest() -> str:
    # What is installed while the webui runs does not change what it has imported.
    import sys

    return hashlib.sha256(canonical_bytes(list(packages(sys.path)))).hexdigest()
