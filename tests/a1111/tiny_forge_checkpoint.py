"""Makes a random SD1.5 checkpoint that Forge recognises, and LoRAs for it.

Run by Forge's own Python: `python tiny_forge_checkpoint.py WEBUI OUT [SEED]`. Forge tells a model by its
shapes, and takes the text encoder and the VAE as its own folder describes them; so only the UNet can be
small, and the file has 0.5 GB.
"""

from __future__ import annotations

import sys
from pathlib import Path

WEBUI, OUT = Path(sys.argv[1]), Path(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 0
sys.argv = [sys.argv[0], "--always-cpu"]  # Forge reads them, too
sys.path[:0] = [str(WEBUI / each) for each in ("", "packages_3rdparty", "repositories/huggingface_guess")]

import torch  # noqa: E402
from backend.nn.unet import IntegratedUNet2DConditionModel  # noqa: E402
from backend.nn.vae import IntegratedAutoencoderKL  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_lora import lora  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel  # noqa: E402

DESCRIBED = WEBUI / "backend" / "huggingface" / "runwayml" / "stable-diffusion-v1-5"
UNET = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 1],
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "context_dim": 768,
    "num_heads": 8,
}


def checkpoint() -> None:
    torch.manual_seed(SEED)
    parts = {
        "model.diffusion_model.": IntegratedUNet2DConditionModel.from_config(UNET),
        "first_stage_model.": IntegratedAutoencoderKL.from_config(
            IntegratedAutoencoderKL.load_config(DESCRIBED / "vae")
        ),
        "cond_stage_model.transformer.": CLIPTextModel(
            CLIPTextConfig.from_pretrained(DESCRIBED / "text_encoder")
        ),
    }
    weights = {}
    for prefix, part in parts.items():
        for name, tensor in part.state_dict().items():
            if tensor.is_floating_point():
                if tensor.ndim >= 2 and not tensor.any():
                    tensor.normal_(0, 0.02)
                tensor = tensor.half()
            weights[prefix + name] = tensor.contiguous()
    models = OUT / "models" / "Stable-diffusion"
    models.mkdir(parents=True, exist_ok=True)
    save_file(weights, models / "tiny.safetensors")


checkpoint()
lora(OUT, "style", 1, channels=320)
lora(OUT, "other", 2, channels=320)
print("made")
