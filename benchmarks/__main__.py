"""`python -m benchmarks [--quick]`: runs every benchmark, one after the other."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks

from .report import run

NO_BENCHMARKS = {"__main__", "report", "article_cache", "torture", "comfyui"}


def main(arguments: list[str]) -> int:
    """Run them all; the torture program and the one that needs a host have commands of their own."""
    codes = []
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name in NO_BENCHMARKS:
            continue
        found = importlib.import_module(f"benchmarks.{module.name}")
        if hasattr(found, "benchmark"):
            print(f"\n## {module.name}")
            codes.append(run(found.benchmark, arguments))
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
