"""`python -m toplabel`, the same as `toplabel`."""

from toplabel.cli import main

main()
