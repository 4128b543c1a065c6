"""The webui's values to fields, tensors to bytes and back. Pure: no webui, no clock, no files."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from zit_ext.codecs import CodecError
from zit_ext.records import FieldValue
from zit_ext.tensors import Tensor, decode_tensors, encode_tensors

_DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
}
_SAMPLES = "samples"
_NOTES = "webui"
_DEEPEST = 16


class UnspellableError(Exception):
    """A value has no one spelling, so that nobody can tell whether two of it are equal."""


def spelled(value: Any, path: str = "") -> FieldValue:
    """Return a value of the webui as a field: plain values, and digests of pictures and tensors.

    >>> spelled({"a": (1, float("inf"))})
    {'a': [1, {'float': 'inf'}]}

    Raises UnspellableError with the path of what is none of these.
    """
    if path.count(".") > _DEEPEST:
        raise UnspellableError(f"{path} is nested too deeply")
    if value is None or isinstance(value, (bool, bytes)):
        return value
    if isinstance(value, Enum):
        return spelled(value.value, path)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (str, PurePath)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [spelled(each, f"{path}.{index}") for index, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(name): spelled(each, f"{path}.{name}") for name, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((spelled(each, path) for each in value), key=repr)
    return _spelled_object(value, path)


def _spelled_object(value: Any, path: str) -> FieldValue:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if kind.startswith("numpy.") and hasattr(value, "tobytes"):
        if getattr(value, "dtype", None) is not None and value.dtype.hasobject:
            raise UnspellableError(f"{path} holds objects")
        return {"array": str(value.dtype), "shape": list(value.shape), "digest": _digest(value.tobytes())}
    if kind.startswith("torch.") and hasattr(value, "untyped_storage"):
        tensor = _to_tensor(value)
        return {"tensor": tensor.dtype, "shape": list(tensor.shape), "digest": _digest(tensor.data)}
    if kind.startswith("PIL."):
        return {"image": value.mode, "size": list(value.size), "digest": _digest(value.tobytes())}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {"class": kind, "values": spelled(found, path)}
    raise UnspellableError(f"{path or 'a value'} is a {type(value).__name__}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# The job

_NOT_IN_THE_PICTURE = frozenset(
    {
        # Where and whether it is saved.
        *("outpath_samples", "outpath_grids", "do_not_save_samples", "do_not_save_grid", "save_to_dirs"),
        # Prompts and seeds of the whole job, and before styles: those of this batch are fields.
        *("prompt", "negative_prompt", "styles", "prompt_for_display", "main_prompt", "main_negative_prompt"),
        *("all_prompts", "all_negative_prompts", "hr_prompt", "hr_negative_prompt"),
        *("all_hr_prompts", "all_hr_negative_prompts", "seed", "subseed", "all_seeds", "all_subseeds"),
        # Which batch of the job this is.
        *("n_iter", "iteration", "batch_index"),
        # Written into the options, which are fields, before the job.
        *("override_settings", "override_settings_restore_afterwards"),
        # The infotext: a hit makes its own.
        *("extra_generation_params", "comments", "lora_hashes", "user", "sd_model_name", "sd_model_hash"),
        *("sd_vae_name", "sd_vae_hash"),
        # Scripts and networks are looked at by themselves, checkpoints by their files.
        *("scripts_value", "script_args_value", "scripts_setup_complete", "extra_network_data"),
        *("hr_extra_network_data", "refiner_checkpoint", "refiner_checkpoint_info", "hr_checkpoint_name"),
        "hr_checkpoint_info",
        # Made of the fields, and made anew for each batch.
        *("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc", "c", "uc", "hr_c", "hr_uc", "sampler"),
        # What the batches before have left (Forge).
        *("latents_after_sampling", "pixels_after_sampling", "extra_result_images"),
        *("rng", "step_multiplier", "firstpass_steps", "is_using_inpainting_conditioning", "is_hr_pass"),
        # What the cache puts in their place for this batch; another's is a bypass before this.
        *("setup_conds", "sample"),
        # After the seam, or of the program.
        *("restore_faces", "color_corrections", "is_api", "force_task_id", "do_not_reload_embeddings"),
    }
)
"""Attributes of a job that change no sample. Every other attribute is in the key, unknown ones too."""


def job_fields(job: Mapping[str, Any]) -> dict[str, FieldValue]:
    """Return the fields of a job from its attributes. Raises UnspellableError."""
    fields = {
        name: spelled(value, f"p.{name}") for name, value in job.items() if name not in _NOT_IN_THE_PICTURE
    }
    if not job.get("subseed_strength"):
        # Drawn at random for every job, and used only at a strength.
        fields.pop("subseeds", None)
    return fields


_SAVING_AND_SHOWING = """
    samples_save samples_format samples_filename_pattern save_images_add_number save_images_replace_action
    grid_save grid_format grid_extended_filename grid_only_if_multiple grid_prevent_empty_spots
    grid_zip_filename_pattern n_rows font grid_text_active_color grid_text_inactive_color
    grid_background_color save_images_before_face_restoration save_images_before_highres_fix
    save_images_before_color_correction save_mask save_mask_composite jpeg_quality webp_lossless
    export_for_4chan img_downscale_threshold target_side_length img_max_size_mp use_original_name_batch
    use_upscaler_name_as_suffix save_selected_only save_write_log_csv save_init_img temp_dir
    clean_temp_dir_at_start save_incomplete_images notification_audio notification_volume outdir_samples
    outdir_txt2img_samples outdir_img2img_samples outdir_extras_samples outdir_grids outdir_txt2img_grids
    outdir_img2img_grids outdir_save outdir_init_images save_to_dirs grid_save_to_dirs
    use_save_to_dirs_for_ui directories_filename_pattern directories_max_prompt_words face_restoration
    face_restoration_model code_former_weight face_restoration_unload auto_launch_browser
    enable_console_prompts show_warnings show_gradio_deprecation_warnings memmon_poll_rate
    samples_log_stdout multiple_tqdm enable_upscale_progressbar print_hypernet_extra list_hidden_files
    hide_ldm_prints dump_stacks_on_signal profiling_explanation profiling_enable profiling_activities
    profiling_record_shapes profiling_profile_memory profiling_with_stack profiling_filename
    api_enable_requests api_forbid_local_requests api_useragent sd_model_checkpoint sd_checkpoint_hash
    sd_vae sd_vae_explanation return_grid do_not_show_images js_modal_lightbox
    js_modal_lightbox_initially_zoomed js_modal_lightbox_gamepad js_modal_lightbox_gamepad_repeat
    sd_webui_modal_lightbox_icon_opacity sd_webui_modal_lightbox_toolbar_opacity gallery_height
    open_dir_button_choice compact_prompt_box samplers_in_dropdown dimensions_and_batch_together
    sd_checkpoint_dropdown_use_short hires_fix_show_sampler hires_fix_show_prompts
    txt2img_settings_accordion img2img_settings_accordion interrupt_after_current localization
    quicksettings_list ui_tab_order hidden_tabs ui_reorder_list gradio_theme gradio_themes_cache
    show_progress_in_title send_seed send_size enable_reloading_ui_scripts infotext_explanation
    enable_pnginfo save_txt add_model_name_to_info add_model_hash_to_info add_vae_name_to_info
    add_vae_hash_to_info add_user_name_to_info add_version_to_infotext disable_weights_auto_swap
    infotext_skip_pasting infotext_styles show_progressbar live_previews_enable
    live_previews_image_format show_progress_grid show_progress_every_n_steps show_progress_type
    live_preview_allow_lowvram_full live_preview_content live_preview_refresh_period
    js_live_preview_in_modal_lightbox prevent_screen_sleep_during_generation hide_samplers
"""
_OPTIONS_OF_OTHER_THINGS = frozenset(_SAVING_AND_SHOWING.split())
"""Options of saving, showing and telling. The checkpoint and the VAE are in the key by their content."""

_SERVING = """
    port listen server_name api api_auth api_log api_server_stop nowebui ui_debug_mode autolaunch theme
    gradio_auth gradio_auth_path gradio_queue no_gradio_queue gradio_allowed_path gradio_inpaint_tool
    gradio_debug share ngrok ngrok_region ngrok_options loglevel tls_keyfile tls_certfile disable_tls_verify
    cors_allow_origins cors_allow_origins_regex subpath timeout_keep_alive add_stop_route
    enable_insecure_extension_access hide_ui_dir_config allow_code freeze_settings
    freeze_settings_in_sections freeze_specific_settings ui_settings_file ui_config_file styles_file
    no_prompt_history enable_console_prompts skip_load_model_at_start skip_prepare_environment
    skip_install skip_python_version_check skip_torch_cuda_test skip_version_check reinstall_xformers
    reinstall_torch update_check update_all_extensions test_server log_startup dump_sysinfo
    no_download_sd_model do_not_download_clip no_progressbar_hiding max_batch_count
    disable_console_progressbars unload_gfpgan zit_native_cache f
"""
_COMMAND_LINE_OF_OTHER_THINGS = frozenset(_SERVING.split())


def option_fields(options: Mapping[str, Any], own_prefix: str) -> dict[str, FieldValue]:
    """Return the options that may change a picture; an unknown one may. Raises UnspellableError."""
    return {
        name: spelled(value, f"opts.{name}")
        for name, value in options.items()
        if name not in _OPTIONS_OF_OTHER_THINGS and not name.startswith(own_prefix)
    }


def command_line_fields(arguments: Mapping[str, Any]) -> dict[str, FieldValue]:
    """Return the command line as far as it may change a picture."""
    return {
        name: spelled(value, f"--{name}")
        for name, value in arguments.items()
        if name not in _COMMAND_LINE_OF_OTHER_THINGS
    }


# Textual inversions


def named_in(names: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Return the embeddings that these prompts may use, sorted.

    The tokenizer finds a name in a prompt whatever its case and spaces, so this looks for letters and
    digits alone, and may name one too many, never one too few. What stands in brackets may change in
    mid-render, and numbers stand there: a name may begin before them and go on with any of their parts.

    >>> named_in(["Bad-Hands", "easynegative"], ["a cat, (BAD hands:1.2)"])
    ['Bad-Hands']
    >>> named_in(["bad-feet", "feet-bad"], ["a cat, bad [hands|feet]"])
    ['bad-feet']
    """
    letters = {name: _letters(name) for name in names}
    longest = max(map(len, letters.values()), default=0)
    prompts = [_Prompt(each, longest) for each in texts]
    return sorted(name for name in letters if any(each.may_name(letters[name]) for each in prompts))


class _Prompt:
    """The pieces of a prompt, some of which may be left out when it is tokenized."""

    def __init__(self, text: str, longest: int) -> None:
        apart = re.split(r"[\[\]():|]", text) if "[" in text or "(" in text else [text]
        self._pieces = [piece for each in apart if (piece := _letters(each))]
        self._whole = "\n".join(self._pieces)
        self._ends: dict[str, int] = {}
        """Each end of a piece that a name could begin with, and which piece is the first that ends so."""
        for number, piece in enumerate(self._pieces):
            for start in range(max(0, len(piece) - longest), len(piece)):
                self._ends.setdefault(piece[start:], number)

    def may_name(self, name: str) -> bool:
        if name in self._whole:
            return True
        begun = ((read, self._ends.get(name[:read])) for read in range(1, len(name)))
        return any(number is not None and self._goes_on(name[read:], number + 1) for read, number in begun)

    def _goes_on(self, rest: str, after: int) -> bool:
        """Tell whether the rest of a name can be read from the beginnings of later pieces."""
        waiting = {(rest, after)}
        seen = set()
        while waiting:
            rest, after = waiting.pop()
            seen.add((rest, after))
            for number, piece in enumerate(self._pieces[after:], after):
                if piece.startswith(rest):
                    return True
                if rest.startswith(piece):
                    waiting |= {(rest[len(piece) :], number + 1)} - seen
        return False


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKC", html.unescape(html.unescape(text)))
    return "".join(each for each in plain.casefold() if each.isalnum())


# What is kept


def namespace(of_settings: str, own: str) -> str:
    """Return whose entries these are: apart from the pictures of Z-Image, and each tenant's by themselves.

    >>> namespace("default", "a1111"), namespace("ann", "a1111")
    ('a1111', 'ann-a1111')
    """
    return own if of_settings == "default" else f"{of_settings}-{own}"


def to_bytes(samples: Any, notes: Mapping[str, Any]) -> bytes:
    """Return decoded samples, one tensor of batch x channels x height x width, and notes as safetensors."""
    return encode_tensors({_SAMPLES: _to_tensor(samples)}, {_NOTES: json.dumps(notes)})


def from_bytes(data: bytes) -> tuple[Any, dict[str, Any]]:
    """Return samples and notes, to the bit. Raises CodecError."""
    tensors, texts = decode_tensors(data)
    kept = tensors.get(_SAMPLES)
    if kept is None or kept.dtype not in _DTYPES or len(kept.shape) != 4:
        raise CodecError("these are no samples")
    try:
        notes = json.loads(texts[_NOTES])
        if not isinstance(notes["infotext"], dict) or not is_plain(notes["eta"]):
            raise ValueError
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CodecError("the samples have no notes") from error
    torch = sys.modules["torch"]
    flat = torch.frombuffer(bytearray(kept.data), dtype=torch.uint8)
    return flat.view(getattr(torch, _DTYPES[kept.dtype])).reshape(kept.shape), notes


def _to_tensor(value: Any) -> Tensor:
    torch = sys.modules["torch"]
    plain = value.detach().to("cpu").contiguous()
    name = str(plain.dtype).rpartition(".")[2]
    dtype = next((ours for ours, theirs in _DTYPES.items() if theirs == name), None)
    if dtype is None:
        raise UnspellableError(f"a tensor of {name}")
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return Tensor(dtype, tuple(plain.shape), data)


def is_plain(value: Any) -> bool:
    """Tell whether JSON brings a value of the infotext back as it was.

    >>> is_plain([1, "a", None]), is_plain((1,)), is_plain(print)
    (True, False, False)
    """
    if type(value) is list:
        return all(is_plain(each) for each in value)
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))
