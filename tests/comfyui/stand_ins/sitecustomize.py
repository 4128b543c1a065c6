"""Lets a host import torchvision and torchaudio where no build of them fits this torch.

Importing passes; using what is missing raises. Who asks whether they are installed hears the truth: no.
Only for tests on the CPU.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

NAMES = ("torchvision", "torchaudio")


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
