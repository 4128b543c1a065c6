"""`install.py test`: runs the groups that this machine can run, and names the others at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import groups
from .children import clean_environ, run
from .environment import Say, prepare
from .places import Project


def test(
    project: Project,
    pytest_arguments: Sequence[str],
    *,
    names: Sequence[str],
    everything: bool,
    lint: bool,
    torch_index: str | None,
    say: Say,
    verbose: bool,
) -> int:
    """Install what the tests need, run them, and return the exit code: 0 only if all was well."""
    wanted = groups.extras_for(names) | ({"fast", "test", "zimage"} if everything else set())
    prepare(project, wanted, torch_index=torch_index, say=say, verbose=verbose)
    choice = groups.choose(names, project)
    failures = _lint(project, say) if lint else []
    if choice.chosen:
        expression = groups.selection([group.name for group in choice.chosen])
        command = [str(project.python), "-m", "pytest"]
        command += ["-m", expression] if expression else []
        code = run([*command, *pytest_arguments], environ=clean_environ(), cwd=project.root)
        if code == 130:
            raise KeyboardInterrupt
        if code == 5:
            failures.append("no test was found")
        elif code:
            failures.append("tests")
    if everything and choice.lacking:
        failures.append(f"missing groups ({', '.join(group.name for group in choice.lacking)})")
    if names and not choice.chosen:
        failures.append("none of the named groups can run here")
    _summary(choice, failures, say)
    return 1 if failures else 0


def _lint(project: Project, say: Say) -> list[str]:
    python = str(project.python)
    scripts = project.python.parent
    suffix = ".exe" if sys.platform == "win32" else ""
    failures = []
    for name, command in (
        ("ruff check", [python, "-m", "ruff", "check", "."]),
        ("ruff format", [python, "-m", "ruff", "format", "--check", "."]),
        ("mypy --strict", [python, "-m", "mypy"]),  # pyproject.toml says strict, and of what
        ("import contracts", [str(scripts / f"lint-imports{suffix}")]),
    ):
        say(f"== {name}")
        code = run(command, environ=clean_environ(), cwd=project.root)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            failures.append(name)
    return failures


def _summary(choice: groups.Choice, failures: Sequence[str], say: Say) -> None:
    say("")
    if choice.chosen:
        say(f"Groups that ran: {', '.join(group.name for group in choice.chosen)}.")
    for group, need in choice.left_out:
        say(f"Skipped: {group.name} ({group.what}); it needs {need}.")
    if failures:
        say(f"Failed: {', '.join(failures)}.")
