"""`python -m zit_ext.cli` is `zit-ext`."""

import sys

from . import main

sys.exit(main())
