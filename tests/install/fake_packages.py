"""What the wheels hold that tests of provisioning install in the place of the real ones."""

from __future__ import annotations

TRIAL = """
import json, sys

def main(arguments):
    try:
        import torch, transformers
        if getattr(torch, "broken", False):
            print("this torch is broken")
            return 1
        plugin = getattr(__import__("importlib").util.find_spec("zit_int8"), "origin", None)
        print("zit_ext-proof: " + json.dumps({"torch": torch.__version__, "device": "cpu", "plugin": plugin,
            "transformers": transformers.__version__, "python": sys.executable}))
        return 0
    except ImportError as error:
        print(error)
        return 1
"""
PLUGGY = """
class HookimplMarker:
    def __init__(self, project_name): pass
    def __call__(self, function=None, **options): return function or (lambda f: f)
HookspecMarker = HookimplMarker
"""
BODIES = {"diffusers": TRIAL, "pluggy": PLUGGY}
