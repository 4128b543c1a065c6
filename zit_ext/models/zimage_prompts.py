"""Prompts in, embeddings out; what of a prompt is not read. Remembers the last few.

Embeddings are made by the pipeline's own `encode_prompt`, padded as it pads, so that a picture made
from a remembered embedding is the picture made from its prompt, to the bit.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

REMEMBERED = 8
"""Prompts whose embeddings are kept in RAM: 5 kB per token, at most 2.6 MB each."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What the text encoder made of a prompt."""

    tensor: Any
    """In RAM, tokens x features."""
    cut: str | None
    """The end of the prompt that was not read."""


class PromptMemo:
    """The embeddings of the last prompts, by everything that they depend on.

    The text encoder and its number format are the pipeline's own and never change; what may change is
    in the key.
    """

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[object, ...], Embedding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: tuple[object, ...]) -> Embedding | None:
        """Return what is kept under the key, and count it as used."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: tuple[object, ...], embedding: Embedding) -> None:
        """Keep the embedding, and forget the one that was longest unused."""
        self._kept[key] = embedding
        self._kept.move_to_end(key)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()


def overflow(tokenizer: Any, prompt: str, max_sequence_length: int) -> str | None:
    """Return the end of the prompt that is not read, or None if all of it is."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    found = tokenizer(text, return_offsets_mapping=tokenizer.is_fast, truncation=False, padding=False)
    ids = found["input_ids"]
    if len(ids) <= max_sequence_length:
        return None
    start = text.find(prompt)
    if tokenizer.is_fast and start >= 0:
        cut = prompt[max(found["offset_mapping"][max_sequence_length][0] - start, 0) :]
    else:
        cut = tokenizer.decode(ids[max_sequence_length:], skip_special_tokens=True)
    # Behind the prompt the template adds a few tokens of its own; only those may be cut.
    return cut or None
