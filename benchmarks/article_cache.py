"""The founding article's cache, written again from its description, as a baseline to measure against.

One JSON file and one PNG per entry; the key is made of seven fields and cut to 16 hex digits; LRU by
listing the folder and taking the oldest modification time. It is not part of the product.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path


class ArticleCache:
    """What the article describes, without anything that it does not."""

    def __init__(self, folder: Path, max_entries: int = 1000, ttl_seconds: float = 86_400.0) -> None:
        self.folder = folder
        self.max_entries = max_entries
        self.ttl_seconds = ttl_seconds
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def key(
        prompt: str, negative: str, width: int, height: int, steps: int, guidance: float, seed: int
    ) -> str:
        text = json.dumps([prompt, negative, width, height, steps, guidance, seed])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def get(self, key: str) -> bytes | None:
        described = self.folder / f"{key}.json"
        if not described.exists():
            return None
        entry = json.loads(described.read_text())
        if time.time() - entry["created_at"] > self.ttl_seconds:
            return None
        os.utime(described)
        return Path(entry["output_path"]).read_bytes()

    def put(self, key: str, png: bytes) -> None:
        entries = list(self.folder.glob("*.json"))
        if len(entries) >= self.max_entries:
            oldest = min(entries, key=lambda path: path.stat().st_mtime)
            oldest.with_suffix(".png").unlink(missing_ok=True)
            oldest.unlink(missing_ok=True)
        picture = self.folder / f"{key}.png"
        picture.write_bytes(png)
        entry = {"created_at": time.time(), "output_path": str(picture)}
        (self.folder / f"{key}.json").write_text(json.dumps(entry))
