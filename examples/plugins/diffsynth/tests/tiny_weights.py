"""Tiny weights that DiffSynth's own loader takes: a real ZImageDiT, and small stand-ins beside it.

DiffSynth knows a file by a digest of its tensors' names and shapes, and the sizes of its text encoder and
VAE are fixed in its code. So the sizes of the tiny ones are told to it, as it is told those of real ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffsynth.configs import MODEL_CONFIGS
from diffsynth.core.loader import hash_model_file
from diffsynth.models.z_image_dit import ZImageDiT
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3Config, Qwen3Model

from zit_ext.models import tiny

DIT = {
    "dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": 32,
    "axes_dims": [4, 6, 6],
    "axes_lens": [1024, 64, 64],
}


class TextEncoder(nn.Module):
    """What ZImageTextEncoder is, with the sizes of the tiny tokenizer."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Qwen3Model(
            Qwen3Config(
                vocab_size=320,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
            )
        )

    def forward(self, *args, **options):
        return self.model(*args, **options)


class Decoder(nn.Module):
    """Latents of 16 channels to a picture eight times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 3 * 8 * 8, 3, padding=1)

    def forward(self, latents, **_options):
        return torch.tanh(nn.functional.pixel_shuffle(self.conv(latents), 8))


def build(folder: Path) -> Path:
    """Return the folder with the tiny model in it, and tell DiffSynth its sizes."""
    torch.manual_seed(0)
    parts = {
        "transformer": ("z_image_dit", ZImageDiT, DIT),
        "text_encoder": ("z_image_text_encoder", TextEncoder, {}),
        "vae": ("flux_vae_decoder", Decoder, {}),
    }
    for name, (known_as, kind, sizes) in parts.items():
        (folder / name).mkdir(parents=True)
        module = kind(**sizes)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.2)
        file = folder / name / "model.safetensors"
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, file)
        MODEL_CONFIGS.append(
            {
                "model_hash": hash_model_file([str(file)]),
                "model_name": known_as,
                "model_class": f"{kind.__module__}.{kind.__name__}",
                "extra_kwargs": sizes,
            }
        )
    sys.modules.setdefault("tiny_weights", sys.modules[__name__])
    tiny.components()["tokenizer"].save_pretrained(str(folder / "tokenizer"))
    return folder
