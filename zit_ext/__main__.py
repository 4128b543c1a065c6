"""`python -m zit_ext` is `zit-ext`, also where no command of that name is on the path."""

import sys

from .cli import main

sys.exit(main())
