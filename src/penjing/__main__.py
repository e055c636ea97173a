"""`python -m penjing` is the command `penjing`."""

import os
import sys
from pathlib import Path

# `-m` puts the current folder first, where a stranger's `numpy.py` may lie.
if not sys.flags.safe_path and Path(__file__).parents[1] != Path.cwd():
    sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]

from penjing.cli import main  # noqa: E402, only now

if __name__ == "__main__":
    sys.exit(main())
