"""`python -m helpers …`: the kit's commands, which live in `labkit.cli`."""

import sys

from labkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
