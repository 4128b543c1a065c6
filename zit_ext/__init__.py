"""The cache that makes Z-Image-Turbo feel instant: resident weights, and exact results from disk."""

from .codecs import Pixels
from .hookspecs import hookimpl
from .records import (
    Blob,
    CacheMode,
    Content,
    Encoded,
    Entry,
    FieldValue,
    FileRef,
    Fingerprint,
    InputImage,
    LoraRef,
    ModelRef,
    Outcome,
    Request,
    Result,
    ResultTier,
    SchedulerRef,
    Status,
)
from .settings import Settings

__all__ = [
    "Blob",
    "CacheMode",
    "Content",
    "Encoded",
    "Entry",
    "FieldValue",
    "FileRef",
    "Fingerprint",
    "InputImage",
    "LoraRef",
    "ModelRef",
    "Outcome",
    "Pixels",
    "Request",
    "Result",
    "ResultTier",
    "SchedulerRef",
    "Settings",
    "Status",
    "hookimpl",
]
__version__ = "0.1.0"
