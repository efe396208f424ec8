"""Run one worker class as both kinds of thread, and compare what it costs.

It shows that the kind of a thread is an argument, not another API: `Worker` below is written once,
with its own `run()`, and never asks what it is. Three measurements use it:

    spawn      make, start and join a thread that does nothing
    yield      two threads that offer each other the turn, again and again
    hand-off   two threads that send a number to and fro through two queues

A user thread that yields always switches. A kernel thread asks the operating system, which may well
let it go on, and the price of asking differs between systems and Python versions. `hand-off`, where
neither thread can go on without the other, is what a switch costs.

How to run it (more rounds give steadier figures):

    python examples/same_code_two_kinds.py
    python examples/same_code_two_kinds.py --rounds 100000
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from typing import Literal

from greenthreads import Queue, Thread, run_scheduler, yield_now

Kind = Literal["user", "kernel"]
REPEATS = 3  # the best of them counts: what else the machine does only adds to the time


class Worker(Thread):
    """Yields some times, then takes numbers from one queue and passes each on, plus one."""

    def __init__(self, kind: Kind, inbox: Queue[int], outbox: Queue[int], *, yields: int = 0, hops: int = 0) -> None:
        super().__init__(kind=kind)
        self.inbox = inbox
        self.outbox = outbox
        self.yields = yields
        self.hops = hops

    def run(self) -> None:
        for _ in range(self.yields):
            yield_now()
        for _ in range(self.hops):
            self.outbox.put(self.inbox.get() + 1)


# Each measurement returns how many operations it made; `cost` divides the time by them.


def spawn(kind: Kind, rounds: int) -> int:
    """Make, start and join one idle thread after the other."""
    there, back = Queue[int](), Queue[int]()
    for _ in range(rounds):
        worker = Worker(kind, there, back)
        worker.start()
        worker.join()
    return rounds


def switch(kind: Kind, rounds: int) -> int:
    """Let two threads offer each other the turn."""
    there, back = Queue[int](), Queue[int]()
    run_together(
        Worker(kind, there, back, yields=rounds),
        Worker(kind, back, there, yields=rounds),
    )
    return 2 * rounds


def hand_off(kind: Kind, rounds: int) -> int:
    """Let two threads send one number to and fro; it counts the hand-offs."""
    there, back = Queue[int](), Queue[int]()
    there.put(0)
    run_together(
        Worker(kind, there, back, hops=rounds),
        Worker(kind, back, there, hops=rounds),
    )
    return there.get()


def run_together(*workers: Worker) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def cost(measurement: Callable[[Kind, int], int], kind: Kind, rounds: int) -> float:
    """Microseconds for one operation."""

    def once() -> float:
        started = time.perf_counter()
        operations = measurement(kind, rounds)
        return (time.perf_counter() - started) / operations * 1e6

    return min(once() for _ in range(REPEATS))


def compare(rounds: int) -> None:
    """Measure both kinds and print the table; runs as the main user thread."""
    print(f"microseconds for each operation; best of {REPEATS} times {rounds:,} rounds\n")
    print(f"{'':<12}{'user':>10}{'kernel':>10}{'ratio':>10}")
    for name, measurement in (("spawn", spawn), ("yield", switch), ("hand-off", hand_off)):
        user = cost(measurement, "user", rounds)
        kernel = cost(measurement, "kernel", rounds)
        print(f"{name:<12}{user:>10.2f}{kernel:>10.2f}{kernel / user:>10.1f}")


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the cost of the two kinds of thread.")
    parser.add_argument("--rounds", type=positive, default=10_000, help="of each measurement (default: 10000)")
    options = parser.parse_args()
    run_scheduler(compare, options.rounds)
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough: the end, and no error
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
