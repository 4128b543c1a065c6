"""A1111 starts here. Makes our packages importable without changing its search path for others."""

import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def load(name, path, folder=None):
    """Return a module of ours, imported once from its own place: "Reload UI" runs this file again."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folder)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def start():
    """Return the module that holds our scripts, None if what we need is not there yet."""
    places = load("zit_places", HOME / "zit_ext" / "installing" / "places.py")
    side = str(places.side_folder(places.user_data_dir()))
    if side not in sys.path:
        sys.path.append(side)  # at the end: whatever the webui has itself comes first
    try:
        for name in ("zit_ext", "a1111_extension"):
            load(name, HOME / name / "__init__.py", [str(HOME / name)])
        from a1111_extension import native_cache, settings_page
    except ModuleNotFoundError as error:
        if error.name != "pluggy":
            raise
        print(
            f"zit_ext: {side} is not filled yet. Be online at the next launch, or run {HOME / 'install.py'}."
        )
        return None
    settings_page.register()
    native_cache.register()
    return native_cache


_native_cache = start()
if _native_cache is not None:
    NativeCache = _native_cache.NativeCache
