"""A virtual environment in which plugins are installed by pip, on top of the packages that run the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from zit_ext.testing_pytest import make_zit_engine, zit_engine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["make_zit_engine", "zit_engine"]  # fixtures

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PluginVenv:
    """An environment with zit_ext in it, installed from a copy of this checkout."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @contextmanager
    def with_plugin(self, source: Path) -> Iterator[None]:
        """Have a plugin installed while the context lasts: an engine finds the one under test only."""
        name = self.install(source)
        try:
            yield
        finally:
            self.pip("uninstall", "--quiet", "--yes", name)

    def install(self, source: Path) -> str:
        """Install a package from its source, without an index (what it needs is there); return its name."""
        copy = self.folder / "sources" / source.name
        # A build leaves folders beside the sources: not in the checkout.
        shutil.copytree(
            source, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", ".*", "__pycache__")
        )
        options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        self.pip("install", *options, copy)
        return tomllib.loads((source / "pyproject.toml").read_text())["project"]["name"]

    def pip(self, *arguments: str | Path) -> None:
        self.run(sys.executable, "-m", "pip", "--python", self.python, *arguments)

    def test(self, folder: Path, *options: str) -> str:
        """Run the tests in the folder as its author would; return what pytest says, fail if it fails."""
        return self.run(
            self.python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *options, cwd=folder
        )

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("ZIT_", "PYTEST_"))
        }
        environ |= {
            "PYTHONPATH": "",
            "HF_HUB_OFFLINE": "1",
            "ZIT_CONFIG": str(self.folder / "no-config.toml"),
        }
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=840,
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def plugin_venv(tmp_path_factory: pytest.TempPathFactory) -> PluginVenv:
    """An environment for the whole session; the tests install their plugins into it."""
    made = PluginVenv(tmp_path_factory.mktemp("plugins") / "venv")
    venv.create(made.folder, with_pip=False)
    site = Path(made.run(made.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # torch and pytest are not installed again; what pip puts here comes first.
    (site / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = made.folder / "checkout"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "zit_ext", source / "zit_ext", ignore=shutil.ignore_patterns("__pycache__"))
    made.install(source)
    return made
