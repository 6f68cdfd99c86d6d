"""``python -m cellseg3d``."""

import sys

from cellseg3d.cli.main import main

sys.exit(main())
