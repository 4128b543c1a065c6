"""Speech from text, with the VITS models of transformers: the cache is not about images.

Ask with `Request(prompt=..., media_type="audio/wav", model=ModelRef(source=FOLDER))`. The WAV file is
cached, verified, listed and evicted like a picture.
"""

from __future__ import annotations

import io
import json
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zit_ext import Encoded, ModelRef, Request, hookimpl
from zit_ext.errors import GenerationStoppedError, RequestError
from zit_ext.pipeline import Lease, Part, Rendered, Watcher, WeightTier

WAV = "audio/wav"
RATE = "speech.speaking_rate"
"""The extra of a request that says how fast to speak: 1.0 is the model's own pace."""


@hookimpl
def zit_open_pipeline(model: ModelRef) -> Speech | None:
    if model.path is None or not is_vits(model.path):
        return None  # not ours: the next plugin is asked
    return Speech(model)


def is_vits(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "config.json").read_bytes())["model_type"] == "vits")
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Speech:
    """A VITS model, opened: one part, one stage."""

    def __init__(self, model: ModelRef) -> None:
        import torch
        from transformers import AutoTokenizer, VitsModel

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = AutoTokenizer.from_pretrained(str(model.path), local_files_only=True)
        self._model: Any = VitsModel.from_pretrained(str(model.path), local_files_only=True).eval()
        size = sum(each.numel() * each.element_size() for each in self._model.parameters())
        self._parts = (Part("speaker", size, model.identity),)

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    def move(self, part: str, tier: WeightTier) -> None:
        self._model.to(self._device if tier is WeightTier.VRAM else "cpu")

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        import torch

        from zit_ext.models import torch_environment

        if request.media_type != WAV:
            raise RequestError("media_type", request.media_type, f"this model speaks; ask for {WAV}")
        if watcher.wants_stop():
            raise GenerationStoppedError("the generation was stopped")
        with lease("speaker"), torch.no_grad(), torch.random.fork_rng():
            started = time.perf_counter()
            torch.manual_seed(request.seed)  # VITS draws from torch's own generator
            self._model.speaking_rate = float(request.extra.get(RATE, 1.0))
            tokens = self._tokenizer(request.prompt, return_tensors="pt").to(self._device)
            sound = self._model(**tokens).waveform[0].float().cpu()
            seconds = time.perf_counter() - started
        watcher.step(1, 1)
        environment = torch_environment.record({"pipeline": "transformers.VitsModel"}, self._device)
        return Rendered(Encoded(WAV, _wav(sound, self._model.config.sampling_rate)), seconds, environment)

    def close(self) -> None:
        self._model = None


def _wav(sound: Any, rate: int) -> bytes:
    """Return a waveform between -1 and 1 as a WAV file: one channel, 16 bits."""
    samples = (sound.clamp(-1, 1) * 32767).round().short()
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.numpy().astype("<i2").tobytes())
    return file.getvalue()
