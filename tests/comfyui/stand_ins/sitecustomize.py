"""Lets a host import torchvision and torchaudio where no build of them fits this torch.

Importing passes; using what is missing raises. Who asks whether they are installed hears the truth: no.
Only for tests on the CPU.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types

NAMES = ("torchvision", "torchaudio")
HIDDEN = (
    frozenset(os.environ.get("ZIT_TEST_WITHOUT", "").split())
    if {"main.py", "pip"} & set(sys.orig_argv)
    else frozenset()
)
"""Packages that are as if they were not installed: in the host and for its pip, not in a model server."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands last in line: what is really installed is found before."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] not in NAMES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return Absent(spec.name)

    def exec_module(self, module):
        module.__version__ = "0.0.0"


class Absent(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        return type(name, (Missing,), {"__qualname__": f"{self.__name__}.{name}"})


class Missing:
    def __init__(self, *args, **kwargs):
        raise RuntimeError(f"{type(self).__qualname__} is not installed here")


def find_spec(name, package=None, *, installed=importlib.util.find_spec):
    return None if name.split(".")[0] in NAMES else installed(name, package)


importlib.util.find_spec = find_spec
sys.meta_path.append(Finder())


class Without:
    """Stands in the place of the finder of installed packages, and hides some of them."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in HIDDEN:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, path, target)

    def find_distributions(self, context):
        found = importlib.machinery.PathFinder.find_distributions(context)
        return (each for each in found if each.metadata["Name"] not in HIDDEN)

    def invalidate_caches(self):
        importlib.machinery.PathFinder.invalidate_caches()


if HIDDEN:
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without()
