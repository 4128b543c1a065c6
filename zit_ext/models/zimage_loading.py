"""Makes a Z-Image model's parts of its files, in RAM. What is loaded owns its memory: no file stays mapped.

One thread reads part after part, while another builds what was read: the disk is never idle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import GenerationStoppedError, ModelError
from ..pipeline import load_is_wanted
from ..records import ModelRef
from ..workers import Worker
from . import single_files, tokenizers
from .single_files import ModelFiles, PartFiles
from .weight_reading import read_tensors
from .zimage_checkpoints import TEXT_ENCODER, TRANSFORMER, VAE, damaged
from .zimage_devices import is_out_of_memory, out_of_memory, quiet

building = threading.Lock()
"""Building a module without weights, and silencing libraries, changes the whole process meanwhile: one at a
time, whichever device it is for."""


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
    with _read_ahead(files, dtype) as tensors:
        with building, quiet():
            tokenizer, scheduler = _tokenizer(files), _scheduler(files)
        modules = {name: _module(found, tensors[name], dtype) for name, found in files.parts.items()}
    identities = {name: f"{found.identity}:{name}:{dtype}" for name, found in files.parts.items()}
    return Loaded(modules, tokenizer, scheduler, identities)


Tensors = Future[dict[str, Any]]


@contextmanager
def _read_ahead(files: ModelFiles, dtype: str) -> Iterator[dict[str, Tensors]]:
    """Read all parts, one after another, on a thread of its own; for who does not want them, no further."""
    import torch

    over, asked = threading.Event(), load_is_wanted.get()
    reader = Worker("zit-read-ahead")
    read = partial(
        read_tensors,
        dtype=getattr(torch, dtype),
        wanted=lambda: asked() and not over.is_set(),
        leave_out=lambda name: name.removeprefix("model.") == "lm_head.weight",
    )
    try:
        yield {name: reader.submit(read, found.files) for name, found in files.parts.items()}
    finally:
        over.set()
        reader.abandon()


def _module(found: PartFiles, reading: Tensors, dtype: str) -> Any:
    builders: Mapping[str, Callable[[PartFiles, dict[str, Any], Any], Any]] = {
        TEXT_ENCODER: _text_encoder,
        TRANSFORMER: _transformer,
        VAE: _vae,
    }
    import torch

    try:
        tensors = reading.result()
        with building, quiet():
            module = builders[found.part](found, tensors, getattr(torch, dtype))
    except (ModelError, GenerationStoppedError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, "cpu") from error
        # Each library has its own errors for weights that do not fit: all of them mean this.
        raise _unusable(found, f"{type(error).__name__}: {error}") from error
    _check_complete(found, module)
    module.requires_grad_(False)
    return module.eval()


def _text_encoder(found: PartFiles, tensors: dict[str, Any], dtype: Any) -> Any:
    import transformers
    from transformers import Qwen3Config, Qwen3Model

    # The argument's name before transformers 5. It must be given: a bf16 file loads mixed without.
    wanted = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": dtype}
    config = Qwen3Config.from_pretrained(str(found.config), local_files_only=True)
    state = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    model, report = Qwen3Model.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True, **wanted
    )
    _check_report(found, report)
    return model


def _transformer(found: PartFiles, tensors: dict[str, Any], dtype: Any) -> Any:
    from diffusers import ZImageTransformer2DModel

    return _diffusers_module(ZImageTransformer2DModel, found, tensors, dtype)


def _vae(found: PartFiles, tensors: dict[str, Any], dtype: Any) -> Any:
    from diffusers import AutoencoderKL

    return _diffusers_module(AutoencoderKL, found, tensors, dtype)


def _diffusers_module(kind: Any, found: PartFiles, tensors: dict[str, Any], dtype: Any) -> Any:
    if found.single:
        # The names before the prefix are what every version of diffusers converts. The folder is
        # always given: without it, diffusers would ask a hub for the config.
        return kind.from_single_file(
            {name.removeprefix("model.diffusion_model."): tensor for name, tensor in tensors.items()},
            config=str(found.config),
            local_files_only=True,
            torch_dtype=dtype,
        )
    from accelerate import init_empty_weights

    with init_empty_weights():
        module = kind.from_config(kind.load_config(str(found.config), local_files_only=True))
    # What older versions saved has other names for some weights.
    module._fix_state_dict_keys_on_load(tensors)
    module.load_state_dict(tensors, strict=False, assign=True)
    return module


def _check_report(found: PartFiles, report: Mapping[str, Any]) -> None:
    """Raise ModelError where a library would go on with random numbers in place of weights."""
    if missing := sorted(map(str, report.get("missing_keys") or ())):
        raise _unusable(found, f"{len(missing)} of its weights are missing, such as {missing[0]}")
    if wrong := sorted(map(str, report.get("mismatched_keys") or ())):
        raise _unusable(
            found, f"{len(wrong)} of its weights have another shape than its config says: {wrong[0]}"
        )


def _check_complete(found: PartFiles, module: Any) -> None:
    own = [*module.named_parameters(), *module.named_buffers()]
    if missing := [name for name, tensor in own if tensor.is_meta]:
        raise _unusable(found, f"{len(missing)} of its weights are missing, such as {missing[0]}")


def _tokenizer(files: ModelFiles) -> Any:
    from transformers import AutoTokenizer

    folder = files.tokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise damaged(folder, f"the tokenizer cannot be read ({type(error).__name__}: {error})") from error
    tokenizer.chat_template = tokenizers.chat_template(folder) or tokenizer.chat_template
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
