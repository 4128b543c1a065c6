"""Whether there is a Python that renders: what is made by the button "Set up rendering", or was there."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pluggy

from zit_ext.errors import ServerError
from zit_ext.installing.places import side_folder, user_data_dir
from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.provisioned import provisioned
from zit_ext.renderers.choosing import this_python_fits

from . import host


def is_set_up() -> bool:
    """Tell whether a Python is named or made that renders, or a model server runs already."""
    settings = host.settings()[0]
    return (
        settings.server_python != "auto"
        or provisioned(settings) is not None
        or ServerHome.of(settings).state() is not None
    )


def check() -> None:
    """Raise ServerError with the remedy where no Python is known that renders."""
    if not (this_python_fits() and _is_its_own(pluggy)) and not is_set_up():
        raise ServerError(
            "rendering is not set up yet", "press Set up rendering in the tab Z-Image; it says what it takes"
        )


def _is_its_own(package: ModuleType) -> bool:
    """Tell whether the webui's Python has this package without us: a server on it finds no other."""
    return not Path(str(package.__file__)).is_relative_to(side_folder(user_data_dir()))
