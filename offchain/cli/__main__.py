"""`python -m offchain.cli`: the same as `evenkeel`."""

from offchain.cli import main

main()
