"""A1111 starts here. Makes our packages importable without changing its search path for others."""

import importlib
import importlib.util
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
PARTS = ("settings_page", "native_cache", "routes", "tab")


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
    """Have each part of ours register itself; return by name those that can run here."""
    places = load("zit_places", HOME / "zit_ext" / "installing" / "places.py")
    side = str(places.side_folder(places.user_data_dir()))
    if side not in sys.path:
        sys.path.append(side)  # at the end: whatever the webui has itself comes first
    if importlib.util.find_spec("pluggy") is None:
        print(
            f"zit_ext: {side} is not filled yet. Be online at the next launch, or run {HOME / 'install.py'}."
        )
        return {}
    for name in ("zit_ext", "a1111_extension"):
        load(name, HOME / name / "__init__.py", [str(HOME / name)])
    parts = {}
    for name in PARTS:
        try:
            parts[name] = importlib.import_module(f"a1111_extension.{name}")
            parts[name].register()
        except Exception as error:
            # Relatives of A1111 lack a module or two: what does not need it serves all the same.
            parts.pop(name, None)
            print(f"zit_ext: {name} does not work in this webui and is left out ({error!r}).")
    return parts


_parts = start()
if "native_cache" in _parts:
    NativeCache = _parts["native_cache"].NativeCache
