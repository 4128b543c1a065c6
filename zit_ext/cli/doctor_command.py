"""`zit-ext doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from ..errors import SettingError
from ..runtime import plugins_for
from ..setting_values import user_cache_dir, user_config_file
from ..settings import Settings
from . import checks, product_checks
from .checks import Check, State
from .context import Context, with_options
from .parser import Commands


def add_to(commands: Commands) -> None:
    parser = commands.add(
        "doctor",
        doctor,
        help="say what is wrong with this installation",
        description="Looks at everything that can be wrong. Exit code 1 if something has to be mended.",
    )
    parser.add_argument(
        "--deep", action="store_true", help="import torch and ask it for its device (seconds)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def doctor(options: argparse.Namespace, context: Context) -> int:
    found = list(_examine(options, context))
    if options.json:
        context.console.json([asdict(check) for check in found])
    else:
        rows = [[check.state.value, check.name, check.words] for check in found]
        context.console.table(("", "what", "what was seen"), rows)
        for check in found:
            if check.remedy:
                context.console.say(f"{check.name}: {check.remedy}")
    return 1 if any(check.state is State.FAIL for check in found) else 0


def _examine(options: argparse.Namespace, context: Context) -> Iterator[Check]:
    yield checks.python()
    yield checks.sqlite()
    settings, check = _settings(context)
    yield check
    yield product_checks.cache_in_use(settings)
    folder = checks.cache_folder(settings)
    yield folder
    yield checks.disk(settings)
    yield checks.file_system(settings)
    if folder.state is State.OK:
        yield product_checks.index(settings)
    yield from product_checks.packages()
    yield product_checks.device(settings, deep=options.deep)
    yield product_checks.plugins(plugins_for(settings))
    yield product_checks.model(settings)
    yield from product_checks.model_folders(settings)
    if options.deep:
        yield from product_checks.deep(settings)


def _settings(context: Context) -> tuple[Settings, Check]:
    """Return the settings; where the user's are wrong, the defaults, so that the rest can be looked at."""
    path = user_config_file(context.environ)
    try:
        settings = context.settings()
    except SettingError as error:
        usable = Settings(cache_dir=user_cache_dir(context.environ))
        try:
            usable = with_options(usable, context.options)
        except SettingError:
            return usable, Check("settings", State.FAIL, str(error), "mend the command line")
        return usable, Check("settings", State.FAIL, str(error), f"mend {path} or the variable")
    words = f"{path}{'' if path.exists() else ' (not there: defaults)'}; {len(settings.origin)} not default"
    return settings, Check("settings", State.OK, words)
