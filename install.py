# -*- coding: utf-8 -*-
"""Sets up zit_ext and runs it: `python install.py demo`, `test`, `comfyui PATH`, `a1111 PATH`, `doctor`.

Both hosts run this file too, without arguments: ComfyUI-Manager once, A1111 at every launch.
The standard library is all that it needs. The work is done in zit_ext/installing.
"""

# Even Python 2 must be able to read this file, so that it can say in one line what is wrong.
import os
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
ROOMS = os.path.join(ROOT, "zit_ext", "installing")


def main(arguments):
    if sys.version_info < (3, 10):
        sys.stderr.write(
            "zit_ext needs Python 3.10 to 3.13, and this is Python %d.%d (%s): "
            "run it with a newer one, such as `python3.12 install.py`.\n"
            % (sys.version_info[0], sys.version_info[1], sys.executable)
        )
        return 2
    if not os.path.isdir(ROOMS):
        sys.stderr.write(
            "install.py belongs in the folder of zit_ext, and %s is not there: "
            "fetch the whole project again.\n" % ROOMS
        )
        return 2
    return room("command_line").main(__file__, arguments)


def room(name):
    """Return one of the rooms behind this file, such as "places", without importing zit_ext.

    Importing zit_ext itself needs pluggy, which may not be there yet: the rooms are loaded by their place.
    """
    import importlib.util

    package = "zit_installing"
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            package, os.path.join(ROOMS, "__init__.py"), submodule_search_locations=[ROOMS]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        spec.loader.exec_module(module)
    return importlib.import_module(package + "." + name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
