"""Opens weights named paint:FOLDER/NAME: a fake pipeline which tells through files in FOLDER what it does."""

from __future__ import annotations

import os
import time
from pathlib import Path

from zit_ext import ModelRef, Request, hookimpl
from zit_ext.errors import GenerationStoppedError, ModelError
from zit_ext.pipeline import Lease, Rendered, Watcher
from zit_ext.testing import FakePipeline

BRUSH = os.environ.get("ZIT_TEST_BRUSH", "")


@hookimpl
def zit_fingerprint_fields(request: Request) -> dict[str, str]:
    return {"brush": BRUSH} if BRUSH else {}


@hookimpl
def zit_open_pipeline(model: ModelRef) -> FakePipeline | None:
    kind, _, place = model.source.partition(":")
    if kind != "paint":
        return None
    folder = Path(place)
    note(folder.parent / "loads.txt", f"{folder.name} {os.getpid()}")
    while (folder.parent / "slow").exists():
        time.sleep(0.01)
    if (folder.parent / "broken").exists():
        raise ModelError("the disk is on fire")
    return Paint(folder)


class Paint(FakePipeline):
    """Renders at once; while the file `hold` is there, it waits after the first step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(model=folder.name)
        self.folder = folder.parent

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        note(self.folder / "renders.txt", request.prompt)
        watcher.step(1, request.steps)
        watcher.preview(b"\x89PNG preview")
        try:
            while (self.folder / "hold").exists():
                if watcher.wants_stop():
                    raise GenerationStoppedError("stopped by the watcher")
                time.sleep(0.01)
            return super().render(request, lease, watcher)
        finally:
            note(self.folder / "ended.txt", request.prompt)


def note(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(line + "\n")
