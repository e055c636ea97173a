"""`python -m penjing` is the command `penjing`."""

import sys

from penjing.cli import main

if __name__ == "__main__":
    sys.exit(main())
