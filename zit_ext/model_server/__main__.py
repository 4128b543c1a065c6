"""`python -m zit_ext.model_server`: the server in the foreground, with the user's settings."""

from __future__ import annotations

import sys

from .process import main

sys.exit(main(sys.argv[1:]))
