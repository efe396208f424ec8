"""What instrumentation costs: `python benchmarks/instrumentation.py [rounds]`.

For each kind of access a loop that does nothing else, plain and instrumented, in one process and in turn; the hook
returns at once, as it does at an access that is no choice point. CPU time, the median of the repetitions, per access.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)

from greenthreads.testing.instrument import instrumented  # noqa: E402
from scheduler import control  # noqa: E402

# name -> (statement, accesses in it)
STATEMENTS = {
    "attribute read": ("box.x", 1),
    "attribute set": ("box.x = 1", 1),
    "attribute += 1": ("box.x += 1", 2),
    # Of the instance, which has none, and of the class.
    "class variable read": ("box.shared", 2),
    "method call": ("box.method()", 0),
    "global read": ("count", 1),
    "global += 1": ("count += 1", 2),
    "closure variable read": ("cell", 1),
    "list item read": ("items[0]", 1),
    "list item set": ("items[0] = 1", 1),
    "list append and pop": ("items.append(1); items.pop()", 2),
    "dict item read": ("table['a']", 1),
    "dict item set": ("table['a'] = 1", 1),
    "dict get": ("table.get('a')", 1),
    "key in dict": ("'a' in table", 1),
    "set add": ("members.add(1)", 1),
    "len": ("len(items)", 1),
    "truth of a list": ("if items: pass", 1),
    "step of an iteration": ("for _ in ten: pass", 12),
    "comparison of numbers": ("number < 2", 0),
    "nothing": ("pass", 0),
}
SOURCE = """
count = 0
class Box:
    shared = 0
    def __init__(self): self.x = 1
    def method(self): pass
"""
FUNCTION = """
def measured_{index}():
    cell = 0
    def change():
        nonlocal cell
        cell = 1
    def run(rounds):
        global count
        box, items, table, members, ten, number = Box(), [1, 2], {{"a": 1}}, {{1}}, [0] * 10, 1
        for _ in rounds:
            {statement}
    return run
"""


def nothing(_obj: object, _footprint: object) -> None:
    """The hook at an access that is no choice point."""


def timed(run: Any, rounds: int) -> float:
    """Nanoseconds of CPU per round."""
    start = time.process_time()
    run(range(rounds))
    return (time.process_time() - start) / rounds * 1e9


def main(rounds: int = 20_000, repetitions: int = 7) -> int:
    """Print the table; 1 if an access costs more than 1 µs."""
    source = SOURCE + "".join(
        FUNCTION.format(index=index, statement=statement) for index, (statement, _) in enumerate(STATEMENTS.values())
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "accesses_to_measure.py").write_text(source, encoding="utf-8")
        sys.path.insert(0, folder)
        module = importlib.import_module("accesses_to_measure")
        sys.path.remove(folder)
        runs = [getattr(module, f"measured_{index}")() for index in range(len(STATEMENTS))]
        plain: list[list[float]] = [[] for _ in runs]
        inside: list[list[float]] = [[] for _ in runs]
        after: list[list[float]] = [[] for _ in runs]
        entry = []
        for _ in range(repetitions):
            for times, run in zip(plain, runs, strict=True):
                times.append(timed(run, rounds))
            start = time.process_time()
            with instrumented([module.__name__]):
                entry.append(time.process_time() - start)
                control.access = nothing
                for times, run in zip(inside, runs, strict=True):
                    times.append(timed(run, rounds))
                control.access = None
            for times, run in zip(after, runs, strict=True):
                times.append(timed(run, rounds))
    print(f"Python {sys.version.split()[0]}, CPU ns per statement, median of {repetitions}; per access: what is added")
    print("| statement | accesses | plain | instrumented | afterwards | added per access |")
    print("|---|---|---|---|---|---|")
    dear = 0
    for name, before, during, later in zip(STATEMENTS, plain, inside, after, strict=True):
        accesses = STATEMENTS[name][1]
        added = (median(during) - median(before)) / max(accesses, 1)
        dear += added > 1000
        print(
            f"| {name} | {accesses} | {median(before):.0f} | {median(during):.0f} | {median(later):.0f} | {added:.0f} |"
        )
    print(f"\nEntering: {median(entry) * 1e3:.1f} ms")
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
