"""A process that holds fake weights on a fake GPU which it shares with others: LEDGER GPU.

It renders once and says "ready"; then, for each line that it gets, it says how much it holds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.holder.shelf import ZIMAGE, Device, DevicePipeline
from zit_ext.models.ledger import Ledger
from zit_ext.records import ModelRef
from zit_ext.renderers.local import LocalRenderer
from zit_ext.settings import Settings
from zit_ext.testing import QuietWatcher, make_request

TOTAL = 16_000_000_000


class SharedDevice(Device):
    """A GPU whose processes write into files what they use of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.total, self.most, self.foreign = TOTAL, 0, 0

    @property
    def used(self) -> int:
        return sum(int(file.read_text()) for file in self._folder.glob("used-*"))

    @used.setter
    def used(self, number: int) -> None:
        own = self._folder / f"used-{os.getpid()}"
        before = int(own.read_text()) if own.exists() else 0
        new = self._folder / f"new-{os.getpid()}"
        new.write_text(str(before + number - self.used))
        new.replace(own)


def renderer_on(device: Device, ledger: Path) -> LocalRenderer:
    return LocalRenderer(
        Settings(keep_alive=-1, ram_bytes=0),
        open_pipeline=lambda model: DevicePipeline(device, sizes=ZIMAGE, model=model.source),
        make_room=lambda needed, name: 0,
        ledger=Ledger(ledger, "neighbour"),
        device="cuda:0",
        free_memory=device.free,
    )


async def main(ledger: Path, gpu: Path) -> None:
    renderer = renderer_on(SharedDevice(gpu), ledger)
    await renderer.render(make_request(model=ModelRef(source="theirs")), QuietWatcher())
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(renderer.holdings().vram_bytes, flush=True)
    await renderer.close()


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
