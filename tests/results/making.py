"""Results for tests: small pictures and fingerprints that follow from a number."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from zit_ext.codecs import Pixels, decode_png
from zit_ext.fingerprint import fingerprint
from zit_ext.records import Entry, Fingerprint
from zit_ext.results.layout import Layout
from zit_ext.results.store import Found, ResultStore


def lru(policy: str, entry: Entry, floor: float) -> float:
    return float(entry.sequence)


def asked(number: int, *, prompt: str | None = None, namespace: str = "default", **more: Any) -> Fingerprint:
    """Return the fingerprint of the number's request."""
    text = f"a lighthouse, number {number}" if prompt is None else prompt
    fields = {"prompt": text, "seed": number, "steps": 8, "namespace": namespace, "width": 64}
    return fingerprint({**fields, "environment": "0" * 64, **more})


def picture(number: int, side: int = 8) -> Pixels:
    """Return the number's picture: noise, so that its PNG takes about side * side * 3 bytes."""
    return Pixels(side, side, 3, hashlib.shake_256(str(number).encode()).digest(side * side * 3))


def keep(store: ResultStore, number: int, **changes: Any) -> None:
    """Keep the number's picture as a render of two seconds would be kept."""
    namespace = changes.get("namespace", "default")
    told: dict[str, Any] = {
        "namespace": namespace,
        "cost": 2.0,
        "ttl_seconds": None,
        "model": "zit",
        "prompt": f"a lighthouse, number {number}",
    }
    content = changes.pop("content", None) or picture(number, changes.pop("side", 8))
    store.keep(
        changes.pop("fingerprint", None) or asked(number, namespace=namespace), content, **{**told, **changes}
    )


def kept(store: ResultStore, *numbers: int, **changes: Any) -> None:
    """Keep these pictures one after the other, each of them written."""
    for number in numbers:
        keep(store, number, **changes)
        assert store.flush()


def search(store: ResultStore) -> None:
    """Do all of the daily search now, where the store itself does it: on the thread that writes."""
    store._writer.ask(lambda: [None for _ in store._sweep_in_steps()]).result(60)


def there(store: ResultStore, *numbers: int, **changes: Any) -> list[int]:
    """Return which of these numbers the store answers, each answer checked against the truth."""
    found = []
    for number in numbers:
        answer = store.find(asked(number, **changes))
        if answer is not None:
            is_true(answer, number)
            found.append(number)
    return found


def is_true(answer: Found, number: int) -> None:
    """Fail unless this is the number's picture."""
    pixels = decode_png(answer.content.data)
    assert pixels == picture(number, pixels.width), "another picture was served"
    assert answer.entry.content_digest == pixels.digest


def blob_file(folder: Path, store: ResultStore, number: int) -> Path:
    """Return the file that holds the number's picture."""
    details = store.entry(asked(number).key)
    assert details is not None
    digest = details.entry.blob.digest
    return folder / "blobs" / digest[:2] / digest


def files_in(folder: Path) -> list[str]:
    """Return the files of blobs, by their places in the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def bytes_on_disk(folder: Path) -> int:
    """Return the bytes of everything that a cap counts: blobs, on their way in too, and quarantine."""
    parts = ("blobs", "incoming", "quarantine")
    return sum(path.stat().st_size for part in parts for path in (folder / part).rglob("*") if path.is_file())


def index_file(folder: Path) -> Path:
    """Return the file that is the store's index now."""
    return Layout(folder).find_index()
