"""``python -m cellseg3d``."""

import sys

try:
    from cellseg3d.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

sys.exit(main())
