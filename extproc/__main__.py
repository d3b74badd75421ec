"""`python -m extproc` is `dualpool`."""

import sys

from extproc.cli import run

sys.exit(run())
