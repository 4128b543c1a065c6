"""A program that asks for one picture, and tells what became of it: SETTINGS SOURCE PROMPT."""

from __future__ import annotations

import json
import sys

from zit_ext.errors import ZitError
from zit_ext.records import ModelRef
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings
from zit_ext.testing import make_request


def main(given: str, source: str, prompt: str) -> None:
    settings = Settings().with_values(json.loads(given), "the test")
    request = make_request(prompt=prompt, model=ModelRef(source=source), width=64, height=64)
    with Runtime(settings) as runtime:
        try:
            result = runtime.generate_blocking(request)
        except ZitError as error:
            print(json.dumps({"error": type(error).__name__, "words": str(error)}))
            return
    told = {
        "outcome": result.status.outcome.value,
        "stored": result.status.stored,
        "key": result.status.key,
        "digest": result.digest,
        "warnings": result.warnings,
        "torch": "torch" in sys.modules,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
