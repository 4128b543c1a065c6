"""Makes a random SD1.5 checkpoint of 11 MB that the webui loads by itself, and a LoRA for it.

Run by the webui's own Python: `python tiny_checkpoint.py WEBUI OUT [SEED]`. The webui reads NAME.yaml beside
NAME.safetensors, so that sizes are free; the tokenizer is made of the table that open_clip brings.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

WEBUI, OUT = Path(sys.argv[1]), Path(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 0
sys.path.insert(0, str(WEBUI / "repositories" / "stable-diffusion-stability-ai"))

import ldm.modules.encoders.modules as encoders  # noqa: E402
import open_clip  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from ldm.util import instantiate_from_config  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_lora import lora  # noqa: E402

WORDS = 49408
CLIP = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 77,
    "vocab_size": WORDS,
    "projection_dim": 32,
    "hidden_act": "quick_gelu",
    "bos_token_id": WORDS - 2,
    "eos_token_id": WORDS - 1,
    "pad_token_id": 1,
}
TOKENIZER = {
    "model_type": "clip",
    "tokenizer_class": "CLIPTokenizer",
    "do_lower_case": True,
    "model_max_length": 77,
    "unk_token": "<|endoftext|>",
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}


def tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    merges = gzip.decompress(table.read_bytes()).decode().split("\n")[1 : WORDS - 2 * 256 - 2 + 1]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(each) for each in plain]
    others = [each for each in range(256) if each not in plain]
    letters += [chr(256 + index) for index in range(len(others))]
    words = [*letters, *(each + "</w>" for each in letters), *("".join(each.split()) for each in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    assert len(words) == WORDS
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (folder / "config.json").write_text(json.dumps(CLIP))


def checkpoint() -> None:
    clip = OUT / "tokenizer"
    tokenizer(clip)
    config = OmegaConf.load(WEBUI / "configs" / "v1-inference.yaml")
    parts = config.model.params
    parts.unet_config.params.update(
        model_channels=32, channel_mult=[1, 1, 1, 1], num_res_blocks=1, num_heads=2, context_dim=32
    )
    parts.first_stage_config.params.ddconfig.update(ch=32, ch_mult=[1, 1, 1, 1], num_res_blocks=1)
    parts.cond_stage_config.params = {"version": str(clip)}
    models = OUT / "models" / "Stable-diffusion"
    models.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, models / "tiny.yaml")
    torch.manual_seed(SEED)
    encoders.CLIPTextModel.from_pretrained = classmethod(
        lambda cls, version, *args, **named: transformers.CLIPTextModel(
            transformers.CLIPTextConfig.from_pretrained(version)
        )
    )
    model = instantiate_from_config(config.model)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim >= 2 and tensor.abs().sum() == 0:
            tensor.normal_(0, 0.02)
    kept = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "betas", "alphas")
    kept += ("sqrt", "log_", "posterior")
    weights = {name: each.contiguous() for name, each in model.state_dict().items() if name.startswith(kept)}
    save_file(weights, models / "tiny.safetensors")


checkpoint()
lora(OUT, "style", 1, channels=32)
lora(OUT, "other", 2, channels=32)
print("made")
