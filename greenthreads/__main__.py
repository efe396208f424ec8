"""`python -m greenthreads`: the `run_scheduler` command."""

import sys

from greenthreads.cli import main

if __name__ == "__main__":
    sys.exit(main())
