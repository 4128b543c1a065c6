"""Which torch a machine wants: the NVIDIA GPU, if there is one, and what that means for the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_WSL = "/usr/lib/wsl/lib/nvidia-smi"


def nvidia_gpu() -> str | None:
    """Return the name of this machine's first NVIDIA GPU, None if there is none that its driver shows."""
    tool = shutil.which("nvidia-smi") or (_WSL if Path(_WSL).exists() else None)
    if tool is not None:
        try:
            done = subprocess.run(
                [tool, "--query-gpu=name", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=15,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            pass
        else:
            names = done.stdout.decode("utf-8", "replace").splitlines()
            if done.returncode == 0 and names:
                return names[0].strip()
    # A container may have the driver without its tool.
    if any(Path("/proc/driver/nvidia/gpus").glob("*")):
        return "NVIDIA GPU"
    system = Path(os.environ.get("SYSTEMROOT") or "/nonexistent") / "System32"
    return "NVIDIA GPU" if (system / "nvcuda.dll").exists() else None


def torch_advice(gpu: str | None, index: str | None, platform: str = sys.platform) -> str:
    """Return which build of torch will come, and what to do if another is wanted.

    >>> torch_advice("RTX 4070", None, "win32").splitlines()[0]
    'GPU: RTX 4070. For Windows the package index has CPU builds of torch only.'
    """
    shown = f"GPU: {gpu}." if gpu else "No NVIDIA GPU found."
    if index:
        return f"{shown} torch comes from the index that was named."
    choose = (
        "For another build give --torch-index URL (or ZIT_TORCH_INDEX): "
        "the install selector on PyTorch's site names the index for your driver."
    )
    if platform == "win32" and gpu:
        return f"{shown} For Windows the package index has CPU builds of torch only.\n  {choose}"
    if platform == "linux" and gpu:
        return f"{shown} The package index has a CUDA build of torch for it."
    if platform == "linux":
        return (
            f"{shown} The package index's torch runs on the CPU too, though it may be a CUDA build "
            f"of several GB.\n  {choose}"
        )
    return f"{shown} torch comes from the package index."
