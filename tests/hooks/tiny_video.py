"""A video model of half a megabyte with random weights, of diffusers' real Wan classes."""

from __future__ import annotations

from pathlib import Path


def build(folder: Path) -> Path:
    """Return the folder with the model in it, in the layout of diffusers."""
    import torch
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanPipeline,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    from zit_ext.models import tiny

    torch.manual_seed(0)
    text = UMT5Config(vocab_size=320, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    pipe = WanPipeline(
        tokenizer=tiny.components()["tokenizer"],
        text_encoder=UMT5EncoderModel(text),
        vae=AutoencoderKLWan(
            base_dim=8,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        transformer=WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=16,
            freq_dim=32,
            ffn_dim=32,
            num_layers=1,
            rope_max_seq_len=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_pretrained(str(folder))
    return folder
