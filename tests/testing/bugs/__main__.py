"""Print the table of bugs, or with `page` the page of the documentation. In tests/testing: `python -m bugs`."""

from __future__ import annotations

import sys

from bugs import load
from bugs.table import measure, page, render

if __name__ == "__main__":
    rows = [measure(pair) for pair in load()]
    print(page(rows) if sys.argv[1:] == ["page"] else render(rows), end="")
