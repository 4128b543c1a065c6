"""Renders one small picture with a tiny model: the proof that a Python can run the model server.

Run by `provisioning`, in the Python that is tried and with the variables that the server will have.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ZitError
from ..records import CacheMode, ModelRef, Request
from ..runtime import Runtime
from ..settings import Settings

PROOF = "zit_ext-proof: "
"""How the line begins that says what the picture was rendered with."""


def main(arguments: Sequence[str]) -> int:
    """Render, write the proof to stdout, and return 0; 1 with the reason there."""
    parser = argparse.ArgumentParser(prog="python -m zit_ext.model_server.trial", description=__doc__)
    parser.add_argument("--settings", metavar="JSON", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the tiny model may be made")
    options = parser.parse_args(arguments)
    settings = Settings.load().with_values(json.loads(options.settings), "the program that provisions")
    try:
        proof = rendered(settings, options.folder)
    except ZitError as error:
        _say(str(error))
        return 1
    _say(PROOF + json.dumps(proof))
    return 0


def rendered(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return what a picture of the tiny model was rendered with. Raises ZitError."""
    began = time.perf_counter()
    _say("importing torch")
    import diffusers
    import torch
    import transformers

    from ..models import tiny, zimage_devices

    _say("making a tiny model")
    model = tiny.build(folder / "tiny-model")
    device = settings.device.partition(",")[0].strip()
    _say("rendering a picture with it")
    own = replace(
        settings,
        cache_dir=folder / "cache",
        data_dir=folder / "data",
        disable_cache=True,
        renderer="local",
        device=device,
        dtype="auto",
        attention="auto",
        offline=True,
    )
    with Runtime(own, label="server") as runtime:
        request = Request(
            prompt="a lighthouse",
            seed=42,
            width=64,
            height=64,
            steps=2,
            model=ModelRef(source=str(model)),
            cache=CacheMode.BYPASS,
        )
        picture = runtime.generate_blocking(request)
        reports = runtime.hooks.plugins.reports
        broken = {name: each.broken for name, each in reports.items() if each.broken}
        plugins = sorted(name for name, each in reports.items() if each.origin != "built in")
    resolved = zimage_devices.resolve_device(device)
    return {
        "device": str(resolved),
        "gpu": torch.cuda.get_device_name(resolved) if str(resolved).startswith("cuda") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "pixels": picture.digest,
        "seconds": round(time.perf_counter() - began, 1),
        "plugins": plugins,
        "broken_plugins": broken,
    }


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
