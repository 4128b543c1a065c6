"""Reads a Z-Image model's parts into RAM. What is loaded owns its memory: no file stays mapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..records import ModelRef
from . import single_files
from .single_files import ModelFiles, PartFiles
from .zimage_checkpoints import TEXT_ENCODER, TRANSFORMER, VAE, damaged
from .zimage_devices import is_out_of_memory, out_of_memory, quiet


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a pipeline is made of, in RAM. `modules` are text_encoder, transformer and vae."""

    modules: Mapping[str, Any]
    tokenizer: Any
    scheduler: Any
    """As it came with the model. Renders take copies: it keeps state."""
    identities: Mapping[str, str]
    """What each module was loaded from, and how."""


def load(model: ModelRef, dtype: str) -> Loaded:
    """Return the model's parts, loaded in one number format, in RAM.

    Raises ModelMissingError for a file that is not there and ModelError, naming the file, for one
    that cannot be used.
    """
    files = single_files.find(model)
    with quiet():
        tokenizer, scheduler = _tokenizer(files), _scheduler(files)
        modules = {name: _module(found, dtype) for name, found in files.parts.items()}
    identities = {name: f"{found.identity}:{name}:{dtype}" for name, found in files.parts.items()}
    return Loaded(modules, tokenizer, scheduler, identities)


def _module(found: PartFiles, dtype: str) -> Any:
    readers: Mapping[str, Callable[[PartFiles, Any], Any]] = {
        TEXT_ENCODER: _text_encoder,
        TRANSFORMER: _transformer,
        VAE: _vae,
    }
    import torch

    try:
        module = readers[found.part](found, getattr(torch, dtype))
    except ModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, "cpu") from error
        # Each library has its own errors for weights that do not fit: all of them mean this.
        raise _unusable(found, f"{type(error).__name__}: {error}") from error
    _check_complete(found, module)
    _own_memory(module)
    module.requires_grad_(False)
    return module.eval()


def _text_encoder(found: PartFiles, dtype: Any) -> Any:
    import transformers
    from transformers import Qwen3Config, Qwen3Model

    # The argument's name before transformers 5. It must be given: a bf16 file loads mixed without.
    wanted = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": dtype}
    if not found.single:
        folder = str(found.config)
        model, report = Qwen3Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **wanted
        )
    else:
        config = Qwen3Config.from_pretrained(str(found.config), local_files_only=True)
        tensors = _tensors(found.files[0])
        state = {name.removeprefix("model."): tensor.to(dtype) for name, tensor in tensors.items()}
        state.pop("lm_head.weight", None)
        model, report = Qwen3Model.from_pretrained(
            None, config=config, state_dict=state, output_loading_info=True, **wanted
        )
    _check_report(found, report)
    return model


def _transformer(found: PartFiles, dtype: Any) -> Any:
    from diffusers import ZImageTransformer2DModel

    return _diffusers_module(ZImageTransformer2DModel, found, dtype)


def _vae(found: PartFiles, dtype: Any) -> Any:
    from diffusers import AutoencoderKL

    return _diffusers_module(AutoencoderKL, found, dtype)


def _diffusers_module(kind: Any, found: PartFiles, dtype: Any) -> Any:
    if found.single:
        # The names before the prefix are what every version of diffusers converts. The folder is
        # always given: without it, diffusers would ask a hub for the config.
        tensors = _tensors(found.files[0])
        return kind.from_single_file(
            {name.removeprefix("model.diffusion_model."): tensor for name, tensor in tensors.items()},
            config=str(found.config),
            local_files_only=True,
            torch_dtype=dtype,
        )
    module, report = kind.from_pretrained(
        str(found.config),
        local_files_only=True,
        use_safetensors=True,
        torch_dtype=dtype,
        output_loading_info=True,
    )
    _check_report(found, report)
    return module


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise damaged(path, str(error)) from error
    return tensors


def _check_report(found: PartFiles, report: Mapping[str, Any]) -> None:
    """Raise ModelError where a library would go on with random numbers in place of weights."""
    if missing := sorted(map(str, report.get("missing_keys") or ())):
        raise _unusable(found, f"{len(missing)} of its weights are missing, such as {missing[0]}")
    if wrong := sorted(map(str, report.get("mismatched_keys") or ())):
        raise _unusable(
            found, f"{len(wrong)} of its weights have another shape than its config says: {wrong[0]}"
        )


def _check_complete(found: PartFiles, module: Any) -> None:
    if missing := [name for name, tensor in module.named_parameters() if tensor.is_meta]:
        raise _unusable(found, f"{len(missing)} of its weights are missing, such as {missing[0]}")


def _own_memory(module: Any) -> None:
    """Copy every weight out of whatever it was read through.

    A mapped file that somebody writes over would change the weights, or kill the process.
    """
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.data = tensor.data.clone()


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import AutoTokenizer

    folder = files.tokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise damaged(folder, f"the tokenizer cannot be read ({type(error).__name__}: {error})") from error
    if not tokenizer.chat_template:
        raise damaged(
            folder, "the tokenizer has no chat template (chat_template.jinja, or in tokenizer_config.json)"
        )
    return tokenizer


def _scheduler(files: ModelFiles) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler.from_pretrained(str(files.scheduler), local_files_only=True)


def _unusable(found: PartFiles, why: str) -> ModelError:
    names = found.files[0] if len(found.files) == 1 else found.files[0].parent
    return ModelError(
        f"{names} cannot be used as a {found.part}: {why}; download it again, or choose another"
    )
