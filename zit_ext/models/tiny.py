"""A Z-Image model of three megabytes with fixed random weights: the demo's and the tests' own.

The classes are the real ones, only the sizes are small. Its pictures show nothing; they depend on
everything that a real picture depends on. Knows torch only while it builds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .zimage_devices import quiet

MANIFEST = ".zit_tiny.json"
"""Names every file of a finished build with its SHA-256. Hidden: no part of the model."""

RECIPE = 1
"""Raise it when the weights change: a folder of another recipe is built anew."""

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{%- for m in messages -%}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\n\n</think>\n\n' -}}"
    "{%- endif -%}{%- endif -%}"
)


def build(folder: Path) -> Path:
    """Return the folder with the tiny model in it, in the layout of diffusers.

    A folder that holds it already, whole, is left as it is (milliseconds, no torch). Several
    processes may build at once: each sees all of the files or none. Raises ModelError where the
    folder holds something else.
    """
    folder = Path(folder).absolute()
    if is_whole(folder):
        return folder
    if folder.exists() and not _may_be_replaced(folder):
        raise ModelError(f"{folder} holds other files; name an empty or a new folder for the tiny model")
    folder.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made = workshop / "made"
        _save(made)
        _put_in_place(made, folder, workshop / "old")
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return folder


def is_whole(folder: Path) -> bool:
    """Say whether the folder holds the tiny model, every byte of it."""
    manifest = _manifest(folder)
    if manifest.get("recipe") != RECIPE:
        return False
    try:
        return all(_digest(folder / name) == digest for name, digest in manifest["files"].items())
    except OSError:
        return False


def components(seed: int = 0) -> dict[str, Any]:
    """Return the tiny model's components by name, as `ZImagePipeline(**components())` takes them.

    The weights are fixed by the seed; the process's random state is as it was before.
    """
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _tokenizer()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices), torch.device("cpu"):
        torch.manual_seed(seed)
        text_encoder = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                max_position_embeddings=4096,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
                pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            )
        )
        torch.manual_seed(seed + 1)
        transformer = ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=16,
            dim=64,
            n_layers=3,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            norm_eps=1e-5,
            qk_norm=True,
            cap_feat_dim=32,
            rope_theta=256.0,
            t_scale=1000.0,
            axes_dims=[8, 12, 12],
            axes_lens=[1024, 512, 512],
        )
        torch.manual_seed(seed + 2)
        vae = AutoencoderKL(
            in_channels=3,
            out_channels=3,
            latent_channels=16,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            layers_per_block=1,
            norm_num_groups=4,
            act_fn="silu",
            sample_size=64,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
            force_upcast=True,
        )
        # Some versions of diffusers leave them as they find the memory.
        torch.nn.init.zeros_(transformer.x_pad_token)
        torch.nn.init.zeros_(transformer.cap_pad_token)
    scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False
    )
    return {
        "scheduler": scheduler,
        "vae": vae.eval(),
        "text_encoder": text_encoder.eval(),
        "tokenizer": tokenizer,
        "transformer": transformer.eval(),
    }


def _tokenizer() -> Any:
    """Return a byte-level tokenizer without merges: every prompt has tokens, one for each byte."""
    import transformers

    vocabulary = {token: index for index, token in enumerate([*_byte_letters(), *SPECIALS])}
    words = {
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "model_max_length": 4096,
    }
    if int(transformers.__version__.split(".")[0]) >= 5:
        tokenizer = transformers.Qwen2Tokenizer(
            vocab=vocabulary, merges=[], extra_special_tokens=["<|im_start|>"], **words
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "vocab.json"), Path(folder, "merges.txt")
            files[0].write_text(json.dumps(vocabulary), encoding="utf-8")
            files[1].write_text("#version: 0.2\n", encoding="utf-8")
            tokenizer = transformers.Qwen2TokenizerFast(
                *map(str, files), additional_special_tokens=["<|im_start|>"], **words
            )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _byte_letters() -> list[str]:
    """Return the 256 letters that stand for bytes in byte-level tokenizers, in their usual order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _save(folder: Path) -> None:
    from diffusers import ZImagePipeline

    with quiet():
        ZImagePipeline(**components()).save_pretrained(str(folder), safe_serialization=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "recipe": RECIPE,
        "files": {path.relative_to(folder).as_posix(): _digest(path) for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _put_in_place(made: Path, folder: Path, aside: Path) -> None:
    if is_whole(folder):
        return
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder, aside)
    try:
        os.replace(made, folder)
    except OSError:
        # Another process was quicker: the files are the same.
        if not is_whole(folder):
            raise


def _may_be_replaced(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
