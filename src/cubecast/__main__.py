"""`python -m cubecast`."""

from cubecast.cli.main import main

main()
