"""Whether there is a Python that renders: what is made by the button "Set up rendering", or was there."""

from __future__ import annotations

from zit_ext.errors import ServerError
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
    if not this_python_fits() and not is_set_up():
        raise ServerError(
            "rendering is not set up yet", "press Set up rendering in the tab Z-Image; it says what it takes"
        )
