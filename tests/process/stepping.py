"""`python -m tests.process.stepping FILE ...`: `dualpool ...` by a clock that is off by the seconds in FILE."""

import sys
import time
from pathlib import Path

from extproc.cli import main

_file = Path(sys.argv.pop(1))
_true = time.time


def _stepped() -> float:
    return _true() + float(_file.read_text("utf-8"))


if __name__ == "__main__":
    time.time = _stepped
    sys.exit(main(sys.argv[1:]))
