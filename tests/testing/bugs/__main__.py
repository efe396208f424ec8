"""Print the table of bugs. In tests/testing: `python -m bugs`."""

from __future__ import annotations

from bugs import load
from bugs.table import measure, render

if __name__ == "__main__":
    print(render([measure(pair) for pair in load()]), end="")
