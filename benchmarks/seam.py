"""What the seam of the controlled scheduler costs where nobody controls anything: one global check per operation.

    python benchmarks/seam.py

Each primitive is measured as it is, and in a copy of its module from which the checks have been cut out of the syntax
tree: the rest is the same code. Rounds are taken in turn; the table has medians, in nanoseconds of CPU per operation.
"""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING, Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import greenthreads
from greenthreads import _event, _lock, _rlock, _semaphore, queue

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 21
OPERATIONS = 50_000


class _Cut(ast.NodeTransformer):
    """Takes out every `if control.active …`."""

    def __init__(self) -> None:
        self.count = 0

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        if ast.unparse(node.test).startswith("control.active is not None"):
            self.count += 1
            return node.orelse or ast.Pass()
        return node


def without_the_seam(module: ModuleType) -> ModuleType:
    """A copy of `module` without its checks."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    cut = _Cut()
    tree = ast.fix_missing_locations(cut.visit(tree))
    assert cut.count, module
    copy = ModuleType(module.__name__)
    copy.__file__ = module.__file__
    sys.modules["the copy"] = copy
    exec(compile(tree, module.__file__, "exec"), vars(copy))
    return copy


def with_lock(make: Callable[[], Any]) -> None:
    lock = make()
    for _ in range(OPERATIONS):
        with lock:
            pass


def put_and_get(make: Callable[[], Any]) -> None:
    items = make()
    put, get = items.put, items.get
    for _ in range(OPERATIONS):
        put(None)
        get()


def set_and_wait(make: Callable[[], Any]) -> None:
    event = make()
    set_, wait, clear = event.set, event.wait, event.clear
    for _ in range(OPERATIONS):
        set_()
        wait()
        clear()


def acquire_and_release(make: Callable[[], Any]) -> None:
    semaphore = make()
    acquire, release = semaphore.acquire, semaphore.release
    for _ in range(OPERATIONS):
        acquire()
        release()


# What is measured, how many checks it passes, and what makes the primitive: as it is, and without the checks.
CASES: list[tuple[str, int, Callable[[Callable[[], Any]], None], ModuleType, str]] = [
    ("with Lock()", 2, with_lock, _lock, "Lock"),
    ("with RLock()", 2, with_lock, _rlock, "RLock"),
    ("Semaphore: acquire, release", 2, acquire_and_release, _semaphore, "Semaphore"),
    ("Queue: put, get", 2, put_and_get, queue, "Queue"),
    ("SimpleQueue: put, get", 2, put_and_get, queue, "SimpleQueue"),
    ("Event: set, wait, clear", 3, set_and_wait, _event, "Event"),
]


def measure() -> None:
    """Print the table. In a user thread, as most callers are."""
    print(f"Python {sys.version.split()[0]}")
    print(f"{'nanoseconds':30} {'with':>8} {'without':>8} {'ratio':>6} {'per check':>10}")
    for title, checks, body, module, name in CASES:
        makers = [getattr(module, name), getattr(without_the_seam(module), name)]
        times: list[list[float]] = [[], []]
        for number in range(ROUNDS):
            # Who comes first changes from round to round.
            for which in (0, 1) if number % 2 else (1, 0):
                began = time.process_time()
                body(makers[which])
                times[which].append((time.process_time() - began) / OPERATIONS * 1e9)
        with_, without = median(times[0]), median(times[1])
        print(f"{title:30} {with_:8.0f} {without:8.0f} {with_ / without:6.2f} {(with_ - without) / checks:10.1f}")


if __name__ == "__main__":
    greenthreads.run_scheduler(measure)
