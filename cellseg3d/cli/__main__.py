"""Run the command line as ``python -m cellseg3d.cli``, as torchrun needs it."""

import sys

from cellseg3d.cli.main import main

sys.exit(main())
