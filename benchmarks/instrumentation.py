"""What instrumentation costs: `python benchmarks/instrumentation.py [rounds]`.

For each kind of access a loop that does nothing else, in one process and in turn: plain; instrumented, with a hook that
returns at once; and in a run, whose scheduler notes an access that is no choice point, for the thread is alone. CPU
time, the median of the repetitions, per access.
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

from greenthreads.testing._memory import Memory  # noqa: E402
from greenthreads.testing._session import Session  # noqa: E402
from greenthreads.testing.instrument import instrumented  # noqa: E402
from scheduler import control  # noqa: E402
from scheduler.strategies import by_name  # noqa: E402

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


def in_a_run(module: str, runs: list[Any], rounds: int) -> list[float]:
    """Nanoseconds of CPU per round of each, in the main thread of an execution, which starts no other."""
    times: list[float] = []
    session = Session(
        lambda: times.extend(timed(run, rounds) for run in runs),
        memory=Memory((module,), None),
        max_steps=sys.maxsize,
        stuck_after=None,
    )
    with session:
        strategy = by_name("dfs", 0)
        strategy.begin()
        assert session.run(strategy) is None
    return times


def timed(run: Any, rounds: int) -> float:
    """Nanoseconds of CPU per round."""
    start = time.process_time()
    run(range(rounds))
    return (time.process_time() - start) / rounds * 1e9


def main(rounds: int = 20_000, repetitions: int = 7) -> int:
    """Print the table; 1 if an access that is no choice point costs more than 1 µs."""
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
        alone: list[list[float]] = [[] for _ in runs]
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
            for times, nanoseconds in zip(alone, in_a_run(module.__name__, runs, rounds), strict=True):
                times.append(nanoseconds)
            for times, run in zip(after, runs, strict=True):
                times.append(timed(run, rounds))
    print(f"Python {sys.version.split()[0]}, CPU ns per statement, median of {repetitions}; per access: what is added")
    print("| statement | accesses | plain | instrumented | in a run | afterwards | added | added in a run |")
    print("|---|---|---|---|---|---|---|---|")
    dear = 0
    for name, *measured in zip(STATEMENTS, plain, inside, alone, after, strict=True):
        accesses = STATEMENTS[name][1]
        before, *others = map(median, measured)
        added = [(each - before) / max(accesses, 1) for each in others[:2]]
        dear += max(added) > 1000
        cells = [accesses, *(f"{each:.0f}" for each in (before, *others, *added))]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    print(f"\nEntering: {median(entry) * 1e3:.1f} ms")
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
