"""`python -m toplabel`, the same as `toplabel`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which may hold a `numpy.py` from anywhere

from toplabel.cli import main

main()
