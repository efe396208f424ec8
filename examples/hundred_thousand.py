"""Start 100,000 threads that sleep, and let all of them meet at one point.

It shows that user threads are cheap enough to have one for each thing that waits, in plain
blocking code. Every thread sleeps until a random moment within one second, counts itself in under
a lock, and waits for the last to arrive. Only then may any of them go on. Each counts itself out
and checks that all were there.

How to run it (the random moments are the same for the same seed):

    python examples/hundred_thousand.py
    python examples/hundred_thousand.py 10000 --seed 7

It exits with 0 when all met, and with 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time

from greenthreads import Event, Lock, Thread, run_scheduler, sleep

WITHIN_SECONDS = 1.0


class Meeting:
    """A point that nobody passes before `expected` threads have come to it."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.arrived = 0
        self.met = 0  # threads that went on, and saw that all others were there
        self.lock = Lock()  # guards the two counters
        self.everyone_is_here = Event()

    def attend(self, delay: float) -> None:
        """Sleep, arrive, wait for the others, go on: what each thread does."""
        sleep(delay)
        with self.lock:
            self.arrived += 1
            if self.arrived == self.expected:
                self.everyone_is_here.set()
        self.everyone_is_here.wait()
        with self.lock:
            self.met += self.arrived == self.expected


class Stopwatch:
    """Prints how long each phase took, by the wall and by the processor."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def lap(self, phase: str) -> None:
        """Print the time since the last lap, and start the next."""
        wall, cpu = time.perf_counter(), time.process_time()
        print(f"{phase:<42}{wall - self.wall:8.2f} s {cpu - self.cpu:8.2f} s CPU")
        self.wall, self.cpu = wall, cpu


def hold_meeting(count: int, seed: int) -> bool:
    """Run the whole meeting as the main user thread; whether all have met."""
    delays = random.Random(seed)
    meeting = Meeting(count)
    before = peak_memory()
    watch = Stopwatch()

    # Daemons, so that Ctrl-C in the main thread ends the program, and not the last of them.
    moments = [delays.uniform(0, WITHIN_SECONDS) for _ in range(count)]
    threads = [Thread(target=meeting.attend, args=(moment,), daemon=True) for moment in moments]
    watch.lap(f"{count:,} threads made")
    for thread in threads:
        thread.start()
    watch.lap("all started")
    meeting.everyone_is_here.wait()
    watch.lap(f"all slept up to {WITHIN_SECONDS:g} s, the last is here")
    for thread in threads:
        thread.join()
    watch.lap("all went on and ended")

    grown = peak_memory() - before
    print(f"{'peak memory':<42}{peak_memory() / 1e6:8.0f} MB", end="")
    print(f" {grown / count / 1e3:8.1f} kB for each thread")
    print(f"{meeting.met:,} of {count:,} met")
    return meeting.met == count


def peak_memory() -> int:
    """The most memory that this process has ever held, in bytes; 0 where nobody keeps count."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kilobytes


def positive(text: str) -> int:
    """An argument that must be a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Let 100,000 user threads sleep and meet.")
    parser.add_argument("count", metavar="N", type=positive, nargs="?", default=100_000, help="how many threads")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    options = parser.parse_args()
    return 0 if run_scheduler(hold_meeting, options.count, options.seed) else 1


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough: the end, and no error
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
