"""Makes a random LoRA for a random SD1.5: one layer of it, the same in both webuis."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file


def lora(out: Path, name: str, seed: int, *, channels: int) -> None:
    """Write `models/Lora/NAME.safetensors` for a UNet of so many channels."""
    folder = out / "models" / "Lora"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    layer = "lora_unet_down_blocks_0_attentions_0_proj_in"
    save_file(
        {
            f"{layer}.lora_down.weight": torch.randn(4, channels, 1, 1),
            f"{layer}.lora_up.weight": torch.randn(channels, 4, 1, 1),
            f"{layer}.alpha": torch.tensor(4.0),
        },
        folder / f"{name}.safetensors",
    )
