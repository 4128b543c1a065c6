"""The frozen records that travel through the engine.

A record is what one room hands to the next. Records decide nothing and never change after they are
made, so any thread may read them.

Two requests are equal when they ask for the same picture. A field that does not change the picture
says so with `compare=False`; every other field is part of the cache key, with nothing more to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from .codecs import PNG, Pixels, decode_png, encode_png

FieldValue = Any
"""What a fingerprint field may hold: text, numbers, bool, None, bytes, and lists and dicts of them."""

TURBO = "Tongyi-MAI/Z-Image-Turbo"
"""The official weights, as a Hugging Face id."""


class CacheMode(str, Enum):
    """What the caller wants from the cache."""

    USE = "use"  # look, and keep what was made
    REFRESH = "refresh"  # do not look, but keep what was made
    BYPASS = "bypass"  # neither look nor keep
    ONLY = "only"  # look; a miss is an error, never a render
    AUDIT = "audit"  # neither look nor keep: it is rendered to be compared with what is kept

    @property
    def passes_by(self) -> bool:
        """Neither look nor keep."""
        return self in (CacheMode.BYPASS, CacheMode.AUDIT)


class Outcome(str, Enum):
    """How a request was answered."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class ResultTier(str, Enum):
    """Where an answer came from."""

    MEMORY = "memory"
    DISK = "disk"
    SHARED = "shared"
    RENDER = "render"


NO_ENVIRONMENT = "packages, driver or model are new here"
"""The detail of a miss for which nothing could be looked up: no environment is known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """Names a file or folder of weights. The digest says which bytes; `source` only finds them.

    `source` is a path, a Hugging Face id, or the name of a file in a known model folder. The caller
    gives nothing else; the engine's resolver fills in the rest.
    """

    source: str = field(compare=False)
    digest: str | None = None
    """SHA-256 over everything at `path`; None while nobody has hashed it."""
    path: Path | None = field(default=None, compare=False)
    """Where it was found on this machine."""
    identity: str = field(default="", compare=False)
    """Digest of path, size, times and inode of each file: known at once, changes with the files."""
    believed: bool = field(default=False, compare=False)
    """The digest is what the names of large files promise, and nobody has read them yet: good for looking
    up, not for keeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRef(FileRef):
    """One LoRA patched onto the model, at a strength."""

    strength: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(FileRef):
    """Names one set of weights, and how they are put to use."""

    source: str = field(default="", compare=False)
    """Empty means the model of the settings; so do "auto", "none" and False below."""
    dtype: str = "auto"  # auto | bfloat16 | float16 | float32
    text_encoder: FileRef | None = None
    """Replaces the model's own text encoder (a single file such as `qwen_3_4b`, or a folder)."""
    vae: FileRef | None = None
    """Replaces the model's own VAE (a single file such as `ae`, or a folder)."""
    tokenizer: FileRef | None = None
    """A folder with a tokenizer. Where none of the files above brings one, one that is at hand is used."""
    attention: str = "auto"  # auto | a backend that diffusers names, such as native or flash
    vae_tiling: bool = False
    offload: str = "none"  # none | model | group: low-memory modes

    @property
    def parts(self) -> Mapping[str, FileRef]:
        """The references of the model's parts that are given, by the names of their fields."""
        named = (("text_encoder", self.text_encoder), ("vae", self.vae), ("tokenizer", self.tokenizer))
        return {name: part for name, part in named if part is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRef:
    """A scheduler by class name, and what differs from the config that comes with the model."""

    name: str = "FlowMatchEulerDiscreteScheduler"
    config: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """A picture that the request starts from: the bytes of a PNG, JPEG or WebP file.

    The digest is the SHA-256 of the bytes; `InputImage.of` computes it. Raises ValueError for another one:
    the key knows the picture by it.
    """

    digest: str
    data: bytes = field(compare=False, repr=False)

    def __post_init__(self) -> None:
        # A buffer that its owner goes on to use would change under the digest.
        object.__setattr__(self, "data", bytes(self.data))
        if hashlib.sha256(self.data).hexdigest() != self.digest:
            raise ValueError("the digest is not that of the bytes; make it with InputImage.of(bytes)")

    @classmethod
    def of(cls, data: bytes) -> InputImage:
        return cls(digest=hashlib.sha256(data).hexdigest(), data=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One picture, asked for. A batch is a list of requests with seeds s, s+1, ...

    The defaults are the official ones of Z-Image-Turbo: 1024x1024, 8 steps, guidance 0.
    """

    prompt: str
    seed: int
    """-2^63 to 2^64-1. -1 draws one and bypasses the cache."""
    model: ModelRef = field(default_factory=ModelRef)
    negative_prompt: str = ""
    """Has an effect only with guidance > 0."""
    width: int = 1024
    height: int = 1024
    """Pixels; multiples of 16, at most 8192."""
    steps: int = 8
    """Effective forwards of the transformer, whatever the version of diffusers."""
    guidance: float = 0.0
    cfg_normalization: float = 0.0
    cfg_truncation: float = 1.0
    sigmas: tuple[float, ...] | None = None
    max_sequence_length: int = 512
    """Tokens of the prompt that are read."""
    generator_device: str = "cpu"
    """Where the noise is drawn. "cpu" means the same noise for a seed on every machine."""
    scheduler: SchedulerRef = field(default_factory=SchedulerRef)
    loras: tuple[LoraRef, ...] = ()
    image: InputImage | None = None
    """Image-to-image: the picture to start from."""
    strength: float = 0.6
    """Image-to-image: how much of the picture is made anew, 0 < strength <= 1."""
    media_type: str = PNG
    """What is asked for: a picture, unless a plugin's pipeline makes something else."""
    namespace: str = "default"
    """Whose entry it is: users and tenants do not see each other's."""
    extra: Mapping[str, FieldValue] = field(default_factory=dict)
    """Anything else that changes the picture, named `host.field` by whoever adds it."""
    cache: CacheMode = field(default=CacheMode.USE, compare=False)
    debug: bool = field(default=False, compare=False)
    """Debug mode: the cache is bypassed."""
    ttl_seconds: float | None = field(default=None, compare=False)
    """How long this answer may be used again; None is the setting, 0 is for ever."""
    keep_alive: float | None = field(default=None, compare=False)
    """Seconds that the weights stay after this request; None is the setting, -1 is for ever."""
    priority: int = field(default=0, compare=False)
    """Who renders first when several wait: higher numbers. A batch job says -1."""
    comment: str = field(default="", compare=False)
    """For people; changes nothing."""
    context: str = field(default="", compare=False, repr=False)
    """Filled in by the engine: what plugins and hosts said of it, as a digest. What a pipeline remembers from
    one render to the next (embeddings of prompts) it must remember under this."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a request's answer: the key, and the fields it was made from."""

    key: str
    """SHA-256 of the canonical fields, 64 hex digits."""
    fields: Mapping[str, FieldValue]
    canonical: bytes = field(repr=False)
    """The fields as they were hashed; `fingerprint.read_canonical` reads them back."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as bytes at rest, with their media type."""

    media_type: str
    data: bytes = field(repr=False)


Content = Pixels | Encoded
"""A picture in memory, or any answer as bytes at rest."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes at rest, named by their own SHA-256."""

    digest: str
    size: int
    media_type: str = PNG


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the index: this key is answered by that blob. Times are Unix seconds."""

    key: str
    blob: Blob
    content_digest: str
    """Identity of the answer: of the pixels for a picture, of the bytes for anything else."""
    namespace: str = "default"
    created_at: float
    used_at: float
    sequence: int = 0
    """Grows with each use of any entry of the store: the order of use, whatever the clock did."""
    uses: int = 0
    expires_at: float | None = None
    cost: float = 0.0
    """Seconds of rendering that one hit saves."""
    pinned: bool = False
    model: str = ""
    """Source of the model, for people."""
    prompt: str | None = None
    """None where `store_prompts` is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the cache did with one request, in the words of RFC 9211."""

    outcome: Outcome
    tier: ResultTier = ResultTier.RENDER
    key: str | None = None
    detail: str | None = None
    """Why it was bypassed, or why it was not kept."""
    reason: str | None = None
    """The name of the reason for a bypass, to count by: seed, debug, plugin_failed, or a plugin's name."""
    stored: bool = False
    """The result was accepted by the store, which writes it behind the caller's back."""
    collapsed: bool = False
    ttl: float | None = None
    """Seconds for which the answer is still fresh; None means for ever."""
    stale: bool = False
    """There was an entry, and its time was over."""

    def header(self) -> str:
        """Return the value of a Cache-Status header.

        >>> Status(outcome=Outcome.BYPASS, detail="seed -1").header()
        'zit_ext; fwd=bypass; detail="seed -1"'
        """
        if self.outcome is Outcome.HIT:
            parts = ["zit_ext", "hit"]
        else:
            parts = ["zit_ext", f"fwd={'stale' if self.stale else self.outcome.value}"]
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.ttl is not None and self.outcome is not Outcome.BYPASS:
            parts.append(f"ttl={round(self.ttl)}")
        if self.key:
            parts.append(f'key="{self.key}"')
        detail = self.detail or (self.tier.value if self.outcome is Outcome.HIT else None)
        if detail:
            plain = "".join(
                letter if " " <= letter <= "~" and letter not in '"\\' else "?" for letter in detail
            )
            parts.append(f'detail="{plain}"')
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One picture (or other artifact), answered."""

    content: Content
    status: Status
    request: Request
    """What was asked, with the seed that was used."""
    seconds: float = 0.0
    """From question to answer."""
    saved_seconds: float = 0.0
    """Seconds of rendering that the cache saved this time."""
    render_seconds: float = field(default=0.0, compare=False)
    """Seconds of rendering alone, without queue and load; 0 for a hit."""
    warnings: tuple[str, ...] = ()
    """What the user should know, such as the words of a long prompt that were cut."""

    stored_digest: str | None = field(default=None, compare=False)
    """The digest, where the store knew it."""
    blob_digest: str | None = field(default=None, compare=False)
    """SHA-256 of `data()`, where the store knew it: the name of the blob."""

    @property
    def digest(self) -> str:
        """Identity of the answer: equal digests are equal pixels. Computed when asked (3 MB: some ms)."""
        if self.stored_digest is not None:
            return self.stored_digest
        if isinstance(self.content, Pixels):
            return self.content.digest
        return hashlib.sha256(self.content.data).hexdigest()

    @property
    def media_type(self) -> str:
        return PNG if isinstance(self.content, Pixels) else self.content.media_type

    def pixels(self) -> Pixels:
        """Return the picture in memory, decoded if need be."""
        return self.content if isinstance(self.content, Pixels) else decode_png(self.content.data)

    def data(self) -> bytes:
        """Return the answer as the bytes of a file: a PNG for a picture."""
        return encode_png(self.content) if isinstance(self.content, Pixels) else self.content.data

    def save(self, path: Path | str) -> Path:
        """Write the answer to a file, and return its path."""
        target = Path(path)
        target.write_bytes(self.data())
        return target
