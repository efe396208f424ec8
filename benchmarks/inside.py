"""What seeing inside and time slices cost, and whether they do what they promise. Ratios within one run.

    python -m benchmarks.inside [--quick]

Each figure is the median over rounds in which both sides are measured in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles

from greenthreads import Event, Steps, Thread, dump_threads, run_scheduler, sleep, yield_now
from greenthreads.timeline import Recorder

__all__ = ["main"]


def shares(seconds: float, kind: str) -> tuple[list[float], list[float]]:
    """Ten spinning threads and a sleeper, on slices of 10 ms: each one's share, and how late the sleeper woke."""
    spent: dict[int, float] = {}
    late: list[float] = []

    def run() -> None:
        end = time.perf_counter() + seconds

        def spin(number: int) -> None:
            # A gap of more than two milliseconds is one in which others ran.
            total, before = 0.0, time.perf_counter()
            while (now := time.perf_counter()) < end:
                if now - before < 0.002:
                    total += now - before
                before = now
            spent[number] = total

        def nap() -> None:
            while time.perf_counter() < end - 0.1:
                due = time.perf_counter() + 0.05
                sleep(0.05)
                late.append(time.perf_counter() - due)

        threads = [Thread(target=spin, args=(number,)) for number in range(10)] + [Thread(target=nap)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    if kind == "main":
        run_scheduler(run, timeslice=0.01)
    else:
        thread = Thread(target=run_scheduler, args=(run,), kwargs={"timeslice": 0.01}, kind="kernel")
        thread.start()
        thread.join()
    whole = sum(spent.values())
    return [share / whole for share in spent.values()], late


def empty_for(rounds: int) -> None:
    for _ in range(rounds):
        pass


def empty_while(rounds: int) -> None:
    number = 0
    while number < rounds:
        number += 1


def add(rounds: int) -> None:
    total = 0
    for number in range(rounds):
        total += number


def computing(work: Callable[[int], None], rounds: int, timeslice: float | Steps | None, threads: int = 3) -> float:
    """CPU seconds of threads that do `work`."""

    def run() -> float:
        workers = [Thread(target=work, args=(rounds,)) for _ in range(threads)]
        began = time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.process_time() - began

    return run_scheduler(run, timeslice=timeslice)


def yielding(threads: int, rounds: int) -> float:
    """Nanoseconds a yield."""

    def work() -> None:
        for _ in range(rounds):
            yield_now()

    def run() -> float:
        workers = [Thread(target=work) for _ in range(threads)]
        began = time.process_time()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (time.process_time() - began) / (threads * rounds) * 1e9

    return run_scheduler(run)


def recorded(threads: int, rounds: int) -> float:
    """The same, while a trace is recorded."""
    recorder = Recorder()
    recorder.start()
    try:
        return yielding(threads, rounds)
    finally:
        recorder.stop()


def dumping(threads: int, format: str) -> tuple[float, float]:
    """Seconds for a dump of so many parked threads: by the clock on the wall, and of the processor."""

    def run() -> tuple[float, float]:
        event = Event()
        for _ in range(threads):
            Thread(target=event.wait).start()
        yield_now()
        wall, cpu = time.perf_counter(), time.process_time()
        dump_threads(format=format)  # type: ignore[arg-type]
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        event.set()
        return seconds

    return run_scheduler(run)


def both(rounds: int, left: Callable[[], float], right: Callable[[], float]) -> tuple[float, float]:
    """The medians of two measurements that are made in turn."""
    lefts, rights = [], []
    for _ in range(rounds):
        lefts.append(left())
        rights.append(right())
    return median(lefts), median(rights)


def lost(pairs: int, loops: int) -> None:
    """Print what the end of a slice costs, and so what slices of 10 ms do.

    By slices of 0.5 ms: twenty times as many ends make it stand out from the machine's noise, of a few per cent. The
    two sides of each pair of short measurements are made right after one another, in turn one first and the other.
    """
    seconds = 0.0005
    ratios = []
    for number in range(pairs):
        sides = [None, seconds] if number % 2 else [seconds, None]
        found = {timeslice: computing(add, loops, timeslice) for timeslice in sides}
        ratios.append(found[seconds] / found[None])
    low, middle, high = (ratio - 1 for ratio in quantiles(ratios, n=4))
    print(f"throughput lost to slices of {seconds * 1e3} ms: {middle:.1%} (quartiles {low:.1%} to {high:.1%})")
    print(f"  so {middle * seconds * 1e6:.0f} µs for each end, and {middle * seconds / 0.01:.2%} of slices of 10 ms")


def main(quick: bool = False) -> None:
    """Measure all of it, and print a line each."""
    rounds, size = (3, 20) if quick else (11, 1)
    print(f"Python {sys.version.split()[0]}")
    for kind in ("main", "another"):
        share, late = shares(0.4 if quick else 2.0, kind)
        low, high = min(share) * 100, max(share) * 100
        print(f"10 spinning threads, slices of 10 ms, {kind} kernel thread: {low:.1f} to {high:.1f} % each", end="; ")
        print(f"a sleeper wakes {median(late or [0]) * 1e3:.1f} ms late, at most {max(late, default=0) * 1e3:.1f} ms")
    lost(4 * rounds, 1_500_000 // size)
    for work in (empty_for, empty_while):
        loops = 1_000_000 // size
        off, on = both(rounds, partial(computing, work, loops, None), partial(computing, work, loops, Steps(10_000)))
        print(f"counting steps, {work.__name__}: {on / off:.1f} times ({off / loops / 3e-9:.0f} ns an iteration)")
    threads = 100_000 // size
    for format in ("text", "json"):
        walls, cpus = zip(*[dumping(threads, format) for _ in range(3)], strict=True)
        print(f"dump of {threads:,} parked threads as {format}: {median(walls):.2f} s, {median(cpus):.2f} s of CPU")
    switches = 2000 // size
    off, on = both(rounds, partial(yielding, 100, switches), partial(recorded, 100, switches))
    print(f"a yield of 100 threads: {off:.0f} ns; recorded {on:.0f} ns: {on - off:.0f} ns a switch for the trace")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    main(parser.parse_args().quick)
