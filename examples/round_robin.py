"""Watch user threads take turns: the same order on every run, down to the last line.

It shows two things. A user thread runs until it says otherwise: at `yield_now()`, or where it has
to wait. And everything is first in, first out: whose turn it is, who gets the lock next, who is
served by the queue, who is woken first. The main thread prints in the first column and every
other thread in its own; time runs from top to bottom.

How to run it, and how to see more of it:

    python examples/round_robin.py
    python examples/round_robin.py --threads 5 --steps 4
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from greenthreads import Event, Lock, Queue, Thread, current_thread, run_scheduler, yield_now

COLUMN_WIDTH = 11


def say(text: str) -> None:
    """Print `text` in the column of the thread that says it."""
    name = current_thread().name  # threads 1, 2, 3, … are named after their columns
    column = int(name) if name.isdecimal() else 0
    print(" " * (COLUMN_WIDTH * column) + text)


def start(count: int, target: Callable[[], None]) -> list[Thread]:
    """Start `count` threads that all run `target`: daemons, so that Ctrl-C in the main thread ends them as well."""
    threads = [Thread(target=target, name=str(number), daemon=True) for number in range(1, count + 1)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[Thread]) -> None:
    for thread in threads:
        thread.join()


def take_turns(count: int, steps: int) -> None:
    """Each thread offers its turn to the others after every step."""

    def walk() -> None:
        for step in range(1, steps + 1):
            say(f"step {step}")
            yield_now()

    threads = start(count, walk)
    say("started")  # the others run only now that this thread waits for them
    join(threads)
    say("joined")


def share_a_lock(count: int) -> None:
    """The lock goes to the thread that has waited longest; yielding does not give it up."""
    lock = Lock()

    def work() -> None:
        say("asks")
        with lock:
            say("enters")
            yield_now()
            say("leaves")

    join(start(count, work))


def wait_for_an_event(count: int) -> None:
    """All are woken at once, and run in the order in which they began to wait."""
    gate = Event()

    def pass_through() -> None:
        say("waits")
        gate.wait()
        say("passes")

    threads = start(count, pass_through)
    yield_now()
    say("opens")
    gate.set()
    join(threads)


def serve_from_a_queue(count: int, items: int) -> None:
    """The main thread puts; whoever has waited longest gets. None ends a thread."""
    queue: Queue[int | None] = Queue(maxsize=1)

    def consume() -> None:
        while (item := queue.get()) is not None:
            say(f"gets {item}")
        say("ends")

    threads = start(count, consume)
    yield_now()
    for item in range(1, items + 1):
        say(f"puts {item}")
        queue.put(item)
    for _ in threads:
        queue.put(None)
    join(threads)


def show(count: int, steps: int) -> None:
    """All four scenes, one after the other; runs as the main user thread."""
    columns = ["main", *(f"thread {number}" for number in range(1, count + 1))]
    print("".join(f"{column:<{COLUMN_WIDTH}}" for column in columns).rstrip())
    print("--- taking turns")
    take_turns(count, steps)
    print("--- one lock")
    share_a_lock(count)
    print("--- one event")
    wait_for_an_event(count)
    print("--- one queue, with room for one item")
    serve_from_a_queue(count, items=count + 1)


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Watch user threads take turns.")
    parser.add_argument("--threads", type=positive, default=3, help="how many (default: 3)")
    parser.add_argument("--steps", type=positive, default=3, help="for each of them (default: 3)")
    options = parser.parse_args()
    run_scheduler(show, options.threads, options.steps)
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough: the end, and no error
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
