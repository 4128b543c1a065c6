"""`zit-ext` with fake weights, as a program of its own: for exit codes, signals and limits.

    python fake_program.py SIDE SECONDS_PER_STEP SECONDS_TO_CLOSE ARGUMENTS...

The last line on stderr says which of the heavy packages were imported.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time

from zit_ext.cli import main
from zit_ext.codecs import Pixels
from zit_ext.errors import GenerationStoppedError
from zit_ext.pipeline import Rendered, Watcher
from zit_ext.records import Request
from zit_ext.runtime import Runtime
from zit_ext.testing import FakeRenderer

SIDE, PAUSE, CLOSE, *ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else ("1", "0", "0")


class SlowRenderer(FakeRenderer):
    """Takes its time at each step, and makes noise that no encoder can shrink."""

    def _render(self, request: Request, watcher: Watcher) -> Rendered:
        for step in range(request.steps):
            if watcher.wants_stop():
                raise GenerationStoppedError("the generation was stopped")
            print(f"step {step}", file=sys.stderr, flush=True)
            time.sleep(float(PAUSE))
        noise = hashlib.shake_256(str(request.seed).encode()).digest(int(SIDE) ** 2 * 3)
        return Rendered(Pixels(int(SIDE), int(SIDE), 3, noise), 1.0, {"device": "fake"})

    async def close(self) -> None:
        if float(CLOSE):
            print("closing", file=sys.stderr, flush=True)
            await asyncio.sleep(float(CLOSE))


if __name__ == "__main__":
    code = main(ARGUMENTS, open_runtime=lambda settings: Runtime(settings, renderer=SlowRenderer()))
    heavy = sorted({"torch", "numpy", "PIL", "diffusers", "transformers"} & sys.modules.keys())
    print("imported:", *heavy, file=sys.stderr)
    sys.exit(code)
