"""Runs inside a ComfyUI: starts it as its own `main.py` does, and prints what each pack took to be loaded.

`python comfyui_clock.py [options of ComfyUI]` in its checkout. One JSON line on stdout for each pack: its
path, seconds, seconds of CPU. Imports nothing itself, so that nothing is loaded earlier than it would be.
"""

from __future__ import annotations

import builtins
import json
import os
import runpy
import sys
import time
from typing import Any


def main() -> None:
    """Be ComfyUI, with a clock in its loader of packs."""
    imported = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        module = imported(name, *rest, **more)
        nodes = sys.modules.get("nodes")
        # Whoever imports somebody who imports them comes here as well, later.
        if builtins.__import__ is importing and hasattr(nodes, "load_custom_node"):
            builtins.__import__ = imported
            _time(nodes)
        return module

    builtins.__import__ = importing  # type: ignore[assignment]
    sys.path[0] = os.getcwd()  # noqa: PTH109
    sys.argv[0] = "main.py"
    runpy.run_path("main.py", run_name="__main__")


def _time(nodes: Any) -> None:
    load = nodes.load_custom_node

    async def timed(path: str, *rest: Any, **more: Any) -> Any:
        started, cpu = time.perf_counter(), time.process_time()
        try:
            return await load(path, *rest, **more)
        finally:
            took = [path, time.perf_counter() - started, time.process_time() - cpu]
            print(json.dumps({"loaded": took}), flush=True)

    nodes.load_custom_node = timed


if __name__ == "__main__":
    main()
