"""LoRAs on a shared transformer: exactly those of the request while it renders, none afterwards seen.

They are patched on and never fused: taking a fused one out again does not restore the weights. All of
it happens on the device's own thread.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelError, RequestError
from ..records import LoraRef
from . import zimage_checkpoints as checkpoints
from .zimage_devices import is_out_of_memory, out_of_memory, quiet

_Identity = tuple[object, ...]


class LoraPatches:
    """What is patched onto one transformer. A set of LoRAs stays until another one is asked for."""

    def __init__(self) -> None:
        self._loaded: tuple[_Identity, ...] = ()

    def apply(self, pipe: Any, loras: Sequence[LoraRef]) -> None:
        """Make the pipeline's transformer carry exactly these LoRAs, in this order.

        Raises RequestError for a file that is not there or does not fit the model, and ModelError for
        one that is damaged. The transformer is then as if none had ever been loaded.
        """
        effective = [(index, lora) for index, lora in enumerate(loras) if lora.strength != 0]
        wanted = tuple(_identity(f"loras[{index}]", lora) for index, lora in effective)
        if wanted and importlib.util.find_spec("peft") is None:
            raise ModelError("LoRAs need the package peft, which is not installed: pip install peft")
        if wanted != self._loaded:
            self.clear(pipe.transformer)
            try:
                for place, (index, lora) in enumerate(effective):
                    _load(pipe, _name(place), f"loras[{index}]", lora)
            except BaseException:
                self.clear(pipe.transformer)
                raise
            self._loaded = wanted
        if wanted:
            names = [_name(place) for place in range(len(wanted))]
            pipe.set_adapters(names, adapter_weights=[lora.strength for _, lora in effective])

    def clear(self, transformer: Any) -> None:
        """Take every LoRA off the transformer. Raises ModelError if something of one stays behind."""
        self._loaded = ()
        if not _patched(transformer) and not getattr(transformer, "peft_config", None):
            return
        transformer.unload_lora()
        if left := _patched(transformer):
            raise ModelError(f"a LoRA could not be taken off {left[0]}; load the model again")


def _load(pipe: Any, name: str, field: str, lora: LoraRef) -> None:
    path = _path(lora)
    checkpoints.read(path)
    found: dict[str, Any] = {"weight_name": path.name, "local_files_only": True, "use_safetensors": True}
    try:
        with quiet(), warnings.catch_warnings():
            # That there are several adapters is no surprise.
            warnings.simplefilter("ignore", UserWarning)
            expected = pipe.lora_state_dict(str(path.parent), **found)
            pipe.load_lora_weights(str(path.parent), adapter_name=name, **found)
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(error, str(pipe.transformer.device)) from error
        raise _does_not_fit(field, lora, f"{type(error).__name__}: {error}") from error
    patched = {
        parameter_name: parameter
        for parameter_name, parameter in pipe.transformer.named_parameters()
        if f".{name}." in parameter_name
    }
    weights = [key for key in expected if not key.endswith(".alpha")]
    if len(patched) != len(weights):
        raise _does_not_fit(
            field, lora, f"{len(patched)} of its {len(weights)} tensors have a place in the model"
        )
    for parameter in patched.values():
        # As with the model's own weights: no file stays mapped.
        parameter.data = parameter.data.clone()
        parameter.requires_grad_(False)


def _identity(field: str, lora: LoraRef) -> _Identity:
    path = _path(lora)
    try:
        seen = path.stat()
    except OSError as error:
        raise RequestError(field, lora.source, f"there is no LoRA file {path.name} there") from error
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise RequestError(
            field, lora.source, f"{path.name} is no .safetensors file, and LoRAs are read from those only"
        )
    return (str(path), lora.digest, lora.identity, seen.st_size, seen.st_mtime_ns, seen.st_ino)


def _path(lora: LoraRef) -> Path:
    return lora.path or Path(lora.source)


def _name(place: int) -> str:
    return f"zit_{place}"


def _patched(transformer: Any) -> list[str]:
    """Return the names of the layers that carry a LoRA."""
    if "peft" not in sys.modules:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [name for name, module in transformer.named_modules() if isinstance(module, BaseTunerLayer)]


def _does_not_fit(field: str, lora: LoraRef, why: str) -> RequestError:
    short = re.sub(r"\s+", " ", why)[:300]
    return RequestError(
        field, lora.source, f"{_path(lora).name} does not fit this model ({short}); choose a LoRA for Z-Image"
    )
