"""Says what is wrong with an installation and how to mend it. Looks only; changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import graphics, hosts, links, registry, stamp
from .children import ask
from .environment import LEAST_TORCH, Say
from .places import Project, side_folder
from .pythons import notice
from .versions import parsed, requirements

OK, WARNING, WRONG = "ok", "warning", "wrong"
_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `level` is ok, warning or wrong; `remedy` is empty if all is well."""

    level: str
    subject: str
    what: str
    remedy: str = ""


def report(project: Project, host_path: Path | None, data: Path, *, say: Say) -> int:
    """Print every finding and return 1 if something is wrong. Raises SetupError if there is no such host."""
    host = None if host_path is None else hosts.any_at(host_path)
    findings = [*examine(project, data, but=host)]
    if host is not None:
        findings += examine_host(project, host, data)
    for finding in findings:
        mark = {OK: "  ok   ", WARNING: "  note ", WRONG: "  WRONG"}[finding.level]
        say(f"{mark} {finding.subject}: {finding.what}")
        if finding.remedy:
            say(f"          {finding.remedy}")
    wrong = sum(finding.level == WRONG for finding in findings)
    say(f"\n{wrong} wrong, {sum(finding.level == WARNING for finding in findings)} to note.")
    return 1 if wrong else 0


def examine(project: Project, data: Path, *, but: hosts.Host | None = None) -> Iterator[Finding]:
    """Look at the project, its environment, the cache folder and the remembered hosts but this one."""
    yield _python()
    yield from _environment(project)
    yield from _cache_folder(project)
    free = shutil.disk_usage(project.root).free
    if free < 2 * _GB:
        yield Finding(WARNING, "disk", f"{free / _GB:.1f} GB are free in {project.root}", "Free some space.")
    else:
        yield Finding(OK, "disk", f"{free / _GB:.0f} GB free")
    for host in registry.remembered(data, project.root):
        if but is None or host.root.resolve() != but.root.resolve():
            yield _link(project, host)


def examine_host(project: Project, host: hosts.Host, data: Path) -> Iterator[Finding]:
    """Look at one host: our place in it, whether we are there twice, and whether its Python fits."""
    yield _link(project, host)
    loaded = links.duplicates(host)
    if len(loaded) > 1:
        yield Finding(
            WRONG,
            "duplicates",
            f"the host would load zit_ext {len(loaded)} times: {', '.join(path.name for path in loaded)}",
            "Keep one of them: two are two caches in one process.",
        )
    yield from _host_python(project, host, data)


def _python() -> Finding:
    shown = f"{sys.implementation.name} {sys.version.split()[0]} at {sys.executable}"
    strange = notice(sys.version_info[:2], sys.implementation.name)
    if strange is None:
        return Finding(OK, "Python", shown)
    return Finding(WARNING, "Python", f"{shown}. {strange}", "Use Python 3.10 to 3.13.")


def _environment(project: Project) -> Iterator[Finding]:
    reason = stamp.why_not_ready(project, (), None)
    if not project.venv.exists():
        yield Finding(WARNING, ".venv", "there is no environment yet", "`python install.py demo` makes it.")
        return
    if reason is not None:
        yield Finding(WRONG, ".venv", reason, "`python install.py demo` mends it.")
    else:
        yield Finding(OK, ".venv", f"ready, with {', '.join(stamp.read(project)['extras'])}")
    installed = stamp.installed(project.venv)
    pins = requirements(project.constraints)
    there = {name: pin for name, pin in pins.items() if name in installed}
    for name, pin in there.items():
        if not pin.met_by(installed[name]):
            yield Finding(
                WARNING,
                name,
                f"{installed[name]} is installed, {pin.version} was verified",
                "Nothing, if you chose it; otherwise remove .venv and run the demo again.",
            )
    yield Finding(
        OK,
        "packages",
        f"{len(there)} are installed, of {len(pins)} that were verified; the others are for tests and extras",
    )
    yield from _own_installation(project)
    if "torch" in installed:
        yield _torch(project, installed["torch"])


def _own_installation(project: Project) -> Iterator[Finding]:
    place = ask(project.python, "import zit_ext; print(zit_ext.__file__)")
    if place is None:
        yield Finding(WRONG, "zit_ext", "cannot be imported in .venv", "`python install.py demo` mends it.")
    elif Path(os.path.realpath(place)).parents[1] != Path(os.path.realpath(project.root)):
        yield Finding(
            WRONG,
            "zit_ext",
            f".venv imports another copy, {place}",
            f"{project.python} -m pip uninstall zit_ext, then `python install.py demo`.",
        )
    else:
        yield Finding(OK, "zit_ext", "imported from this folder")


def _torch(project: Project, version: str) -> Finding:
    code = (
        "import json, torch\ncuda = torch.cuda.is_available()\n"
        "print(json.dumps({'version': torch.__version__,"
        " 'built_for': torch.version.cuda, 'cuda': cuda,"
        " 'gpu': torch.cuda.get_device_name(0) if cuda else None}))"
    )
    said = ask(project.python, code, seconds=300)
    if said is None:
        return Finding(
            WRONG,
            "torch",
            f"{version} is installed and cannot be imported",
            "`python install.py demo` mends it.",
        )
    facts = json.loads(said.splitlines()[-1])
    gpu = graphics.nvidia_gpu()
    if facts["cuda"]:
        return Finding(OK, "torch", f"{facts['version']} renders on {facts['gpu']}")
    if gpu is None:
        return Finding(OK, "torch", f"{facts['version']}, on the CPU: no NVIDIA GPU was found")
    if facts["built_for"] is None:
        return Finding(
            WRONG,
            "torch",
            f"{facts['version']} is a CPU build, and there is a GPU ({gpu})",
            "`python install.py demo --torch-index URL` with the CUDA index that PyTorch's site names.",
        )
    return Finding(
        WRONG,
        "torch",
        f"{facts['version']} is built for CUDA {facts['built_for']} and cannot use the GPU ({gpu})",
        "Most likely the driver is older than that: update it, or choose an older CUDA with --torch-index.",
    )


def _cache_folder(project: Project) -> Iterator[Finding]:
    # Asked of the settings themselves, which know files, variables and profiles; this room does not.
    code = "from zit_ext.settings import Settings; print(Settings.load().cache_dir)"
    said = ask(project.python, code) if project.python.exists() else None
    if said is None:
        if project.python.exists():
            yield Finding(
                WARNING,
                "cache folder",
                "the settings could not be read, so it is not known",
                f"`{project.python} -m zit_ext.cli config` says which setting is wrong.",
            )
        return
    folder = Path(said)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        yield Finding(
            WRONG,
            "cache folder",
            f"{folder} cannot be written: {error.strerror}",
            "Pictures are rendered all the same, but none is kept. Change its owner, or set ZIT_CACHE_DIR.",
        )
        return
    free = shutil.disk_usage(nearest).free
    level, remedy = (WARNING, "Free some space: few results will be kept.") if free < _GB else (OK, "")
    yield Finding(level, "cache folder", f"{folder}, writable, {free / _GB:.1f} GB free", remedy)


def _link(project: Project, host: hosts.Host) -> Finding:
    name = hosts.NAMES[host.kind]
    if not host.root.is_dir():
        return Finding(
            WARNING, name, f"{host.root} is gone", f"`python install.py uninstall {host.root}` forgets it."
        )
    state = links.what_is_at(host.folder / links.NAME, project)
    mend = f"`python install.py {host.kind} {host.root}`"
    if state == "nothing":
        return Finding(WARNING, name, f"zit_ext is not in {host.folder}", f"{mend} puts it there.")
    if state == "our copy":
        if links.copy_is_current(project, host.folder / links.NAME):
            return Finding(OK, name, f"a copy is in {host.folder}")
        return Finding(
            WARNING, name, f"the copy in {host.folder} differs from this project", f"{mend} --copy."
        )
    if state in ("our link", "this project itself", "a clone of zit_ext"):
        return Finding(OK, name, f"{state} is in {host.folder}")
    place = host.folder / links.NAME
    return Finding(WRONG, name, f"{place} is {state}", f"Remove it, then {mend}.")


def _host_python(project: Project, host: hosts.Host, data: Path) -> Iterator[Finding]:
    python = hosts.python_of(host)
    if python is None:
        yield Finding(
            WARNING,
            "the host's Python",
            "not found (no venv beside it)",
            "Run this doctor with the Python that runs the host, and look at what it says of it.",
        )
        return
    code = (
        "import json, sys\nfrom importlib.metadata import distributions\n"
        "print(json.dumps({'python': list(sys.version_info[:2]), 'path': sys.path,"
        " 'packages': {d.metadata['Name'].lower().replace('_', '-'): d.version"
        " for d in distributions() if d.metadata['Name']}}))"
    )
    said = ask(python, code)
    if said is None:
        yield Finding(WRONG, "the host's Python", f"{python} does not start", "Mend the host first.")
        return
    facts = json.loads(said.splitlines()[-1])
    version = ".".join(map(str, facts["python"]))
    if tuple(facts["python"]) < (3, 10):
        yield Finding(
            WRONG,
            "the host's Python",
            f"{version}; zit_ext needs 3.10 or newer",
            "Make the host's environment anew with a newer Python.",
        )
        return
    yield Finding(OK, "the host's Python", f"{version} at {python}")
    packages: dict[str, str] = facts["packages"]
    if host.kind == "a1111" and sys.version_info[:2] == tuple(facts["python"]):
        packages = {**stamp.installed_in(side_folder(data)), **packages}
    needed = [
        each
        for name, each in requirements(project.requirements, tuple(facts["python"])).items()
        if name != "xxhash" and not each.met_by(packages.get(name))
    ]
    if needed and host.kind == "a1111":
        yield Finding(WARNING, "packages", "not set up yet for this webui", "Its next launch does that.")
    elif needed:
        yield Finding(
            WRONG,
            "packages",
            f"the host lacks {', '.join(each.line for each in needed)}",
            f"{python} -m pip install --no-deps -r {project.requirements}",
        )
    else:
        yield Finding(OK, "packages", "the host has what zit_ext needs")
    yield _renders_here(packages)


def _renders_here(packages: dict[str, str]) -> Finding:
    least = {"torch": LEAST_TORCH, "diffusers": "0.36", "transformers": "4.51"}
    lacking = [
        f"{name} {packages.get(name, 'not installed')} (needs {version})"
        for name, version in least.items()
        if name not in packages or parsed(packages[name]) < parsed(version)
    ]
    if not lacking:
        return Finding(OK, "rendering", "Z-Image can render in the host's own Python")
    return Finding(
        WARNING,
        "rendering",
        f"Z-Image cannot render in the host's own Python: {', '.join(lacking)}",
        "That is no fault: it renders in a process of its own. Do not upgrade the host's packages for it.",
    )
