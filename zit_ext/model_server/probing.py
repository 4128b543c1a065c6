"""Which Python may run the model server, and what it would lack. Looks and decides; installs nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..installing import pythons
from ..installing.trouble import SetupError
from ..installing.versions import parsed, plain, requirements
from ..plugins import find_plugins
from ..settings import Settings
from .needs import LEAST, missing

PINS = Path(__file__).with_name("packages.txt")

_MB = 1_000_000
OTHERS_BYTES = 60 * _MB
"""What a download of everything but torch takes, about."""
TORCH_BYTES = {
    "linux": (200 * _MB, 1_400 * _MB),
    "win32": (120 * _MB, 2_700 * _MB),
    "darwin": (90 * _MB,) * 2,
}
"""The same of torch: a build for the CPU, and one for CUDA with its libraries."""


def most_to_download() -> int:
    """Return how many bytes a whole environment takes at most, about: for who has not looked yet."""
    return OTHERS_BYTES + TORCH_BYTES.get(sys.platform, TORCH_BYTES["linux"])[1]


_LOOK = """
import importlib.metadata as m, importlib.util as u, json, struct, sys
def version(name):
    try: return m.version(name)
    except Exception: return None
print(json.dumps({
    "version": list(sys.version_info[:2]), "implementation": sys.implementation.name,
    "bits": struct.calcsize("P") * 8, "executable": sys.executable,
    "packages": {name: version(name) for name in sys.argv[1:]},
    "pip": bool(u.find_spec("pip")), "venv": bool(u.find_spec("venv") and u.find_spec("ensurepip"))}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a Python says of itself."""

    executable: Path
    version: tuple[int, int]
    implementation: str
    bits: int
    pip: bool
    venv: bool
    packages: Mapping[str, str]
    """By plain name; what is not installed is absent."""

    @property
    def can_install(self) -> bool:
        """Say whether there are builds of torch for it."""
        known = (3, 10) <= self.version <= (3, 13)
        return known and self.implementation == "cpython" and self.bits == 64

    def unmet(self) -> list[str]:
        """Return what it lacks for Z-Image, in words such as `torch 2.1.2 (2.5 is needed)`."""
        return [
            f"{name} {have} ({LEAST[name]} is needed)" if (have := self.packages.get(name)) else f"no {name}"
            for name in missing(self.packages)
        ]


@dataclass(frozen=True, slots=True)
class PluginPackage:
    """An installed package with a plugin that acts on renders: the server needs the same one."""

    name: str
    version: str
    requirement: str
    stamp: str = ""
    """Tells one state of it from another where the version does not: it was installed from a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to have a Python that renders. `download` is how many bytes, at least and at most, about."""

    kind: str
    """own: this Python as it is; side: with packages of ours in a folder beside it; venv: one made for it."""
    base: Look
    why: str
    requirements: tuple[str, ...] = ()
    """What is put into its side folder, as pip reads it."""
    stamps: tuple[str, ...] = ()
    """Of the packages of plugins: see `PluginPackage`."""
    download: tuple[int, int] = (0, 0)

    def words(self) -> str:
        """Return in one sentence what will be done."""
        least, most = (
            f"{each / 1e9:.1f} GB" if each >= 1e9 else f"{each / 1e6:.0f} MB" for each in self.download
        )
        size = f"about {most}" if least == most else f"from {least} (torch for the CPU) to {most} (for CUDA)"
        verified = set() if self.kind == "own" else set(pinned(self.base))
        extra = [each for each in self.requirements if each not in verified]
        plugins = f", with {', '.join(extra)} beside it" if extra else ""
        python = f"{self.base.executable} (Python {'.'.join(map(str, self.base.version))})"
        if self.kind == "own" and not plugins:
            return f"{python} is used as it is: {self.why}. Nothing is downloaded"
        if self.kind == "own":
            return f"{python} is used: {self.why}{plugins}"
        if self.kind == "side":
            how = f"{python} is used with packages of ours beside its own"
        else:
            how = f"A Python environment is made with {python}"
        return f"{how}: {self.why}{plugins}. The download is {size}"


def look_at(python: Path, also: Iterable[str] = (), environ: Mapping[str, str] | None = None) -> Look | None:
    """Return what a Python says of itself, with the packages that it has; None if it does not start."""
    try:
        done = subprocess.run(
            # As the server is started: not isolated, since packages of the user count too.
            [str(python), "-X", "utf8", "-c", _LOOK, *LEAST, "pluggy", "tomli", *also],
            env=None if environ is None else {**os.environ, **environ},
            cwd=python.parent if python.parent.is_dir() else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
        told = json.loads(done.stdout)
        return Look(
            executable=Path(told["executable"] or python),
            version=(told["version"][0], told["version"][1]),
            implementation=told["implementation"],
            bits=told["bits"],
            pip=told["pip"],
            venv=told["venv"],
            packages={plain(name): each for name, each in told["packages"].items() if each},
        )
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None


def plans(settings: Settings, python: Path | None = None) -> list[Plan]:
    """Return the ways to have a Python that renders, the one to try first in front. Raises SetupError.

    `python` is the one to begin with; by default it is this program's own.
    """
    plugins = acting_packages(settings)
    named = Path(sys.executable if python is None else python).expanduser()
    own = look_at(named, [each.name for each in plugins])
    if own is None:
        raise SetupError(f"{named} does not start.", "Name another Python.")
    wanted = (*our_own(own), *(each.requirement for each in lacking(own, plugins)))
    stamps = tuple(each.stamp for each in plugins)
    unmet = own.unmet()
    ways = []
    if not unmet:
        ways.append(
            Plan(
                kind="own", base=own, why="it has all that Z-Image needs", requirements=wanted, stamps=stamps
            )
        )
    torch = own.packages.get("torch")
    why = f"it has {', '.join(unmet)}" if unmet else "with its own packages it cannot render"
    if torch and parsed(torch) >= parsed(LEAST["torch"]) and own.pip and own.can_install:
        others = tuple(each for each in pinned(own) if not each.startswith("torch=="))
        ways.append(
            Plan(
                kind="side",
                base=own,
                why=why,
                requirements=tuple(dict.fromkeys((*others, *wanted))),
                stamps=stamps,
                download=(OTHERS_BYTES, OTHERS_BYTES),
            )
        )
    least, most = TORCH_BYTES.get(sys.platform, TORCH_BYTES["linux"])
    download = (OTHERS_BYTES + least, OTHERS_BYTES + most)
    maker = _maker(own)
    if maker is not None:
        everywhere = tuple(each.requirement for each in plugins)
        ways.append(
            Plan(
                kind="venv",
                base=maker,
                why=why,
                requirements=everywhere,
                stamps=stamps,
                download=download,
            )
        )
    elif own.pip and own.can_install:  # a Python that is part of a program, without venv
        every = (*pinned(own), *(each.requirement for each in plugins))
        ways.append(
            Plan(kind="side", base=own, why=why, requirements=every, stamps=stamps, download=download)
        )
    if not ways:
        shown = ".".join(map(str, own.version))
        raise SetupError(
            f"{own.executable} (Python {shown}) cannot render Z-Image ({why}); no other Python was found.",
            "Install Python 3.11 (64 bit, with pip and venv), and name it with --python.",
        )
    return ways


def pinned(look: Look) -> list[str]:
    """Return the verified packages for this Python, as pip reads them."""
    return [f"{each.name}=={each.version}" for each in requirements(PINS, look.version).values()]


def our_own(look: Look) -> list[str]:
    """Return those of this package's own few requirements that this Python has not, as pip reads them."""
    needed = {"pluggy"} | ({"tomli"} if look.version < (3, 11) else set())
    return [line for line in pinned(look) if requirement_names([line])[0] in needed - look.packages.keys()]


def lacking(look: Look, plugins: Sequence[PluginPackage]) -> list[PluginPackage]:
    """Return those packages of plugins that this Python has not, or has in another version."""
    return [each for each in plugins if look.packages.get(plain(each.name)) != each.version]


def acting_packages(settings: Settings) -> list[PluginPackage]:
    """Return the installed packages of this program whose plugins open pipelines."""
    found = find_plugins(disabled=settings.disabled_plugins)
    names = {
        each.origin.split()[1]
        for each in found.reports.values()
        if each.origin.startswith("package ") and "zit_open_pipeline" in each.hooks and not each.disabled
    }
    return [_package(name) for name in sorted(names)]


def _package(name: str) -> PluginPackage:
    distribution = importlib.metadata.distribution(name)
    version = distribution.version
    url = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not url.get("url"):
        return PluginPackage(name, version, f"{name}=={version}")
    if vcs := url.get("vcs_info"):
        place = f"{vcs['vcs']}+{url['url']}@{vcs['commit_id']}"
        return PluginPackage(name, version, f"{name} @ {place}")
    stamp = ""
    if urlsplit(url["url"]).scheme == "file":
        written = distribution.locate_file(f"{name.replace('-', '_')}-{version}.dist-info/RECORD")
        stamp = str(Path(str(written)).stat().st_mtime_ns) if Path(str(written)).exists() else ""
    return PluginPackage(name, version, f"{name} @ {url['url']}", stamp)


def _maker(own: Look) -> Look | None:
    """Return a Python that can make an environment for torch: this one, or another of this machine."""
    if own.can_install and own.venv:
        return own
    others = [look_at(Path(each)) for version, each in pythons.found().items() if version >= "3.11"]
    return next((each for each in others if each is not None and each.can_install and each.venv), None)


def requirement_names(lines: Iterable[str]) -> list[str]:
    """Return the plain names in lines that pip reads.

    >>> requirement_names(["huggingface_hub==2.4.0", "zit-int8 @ file:///x"])
    ['huggingface-hub', 'zit-int8']
    """
    return [plain(line.partition("==")[0].partition(" @ ")[0].strip()) for line in lines]
