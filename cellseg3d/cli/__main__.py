"""``python -m cellseg3d.cli``, for launchers such as torchrun."""

import sys

from cellseg3d.cli.main import main

sys.exit(main())
