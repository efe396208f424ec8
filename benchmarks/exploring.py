"""Exploration beside its peers: executions per second, time to a deadlock, a long run's memory.

    python benchmarks/exploring.py                 # the table; peers that are not installed are left out
    python benchmarks/exploring.py --memory 1000000

The peers need Python 3.12: `pip install frontrun interleave-test`. Each contestant runs the
same program, in rounds taken in turn, in one process; the table has medians. Seconds are of CPU time, of all threads,
for other work on the machine distorts the rest; `wall` is beside it, since the peers also wait for their handovers.

The peers switch at each bytecode (or line), we at each operation on a primitive: the programs yield where the race is,
so that all of them see it, and interleave-test is also shown where it switches at lines only.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import inspect
import os
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 5


# ---- The programs ----------------------------------------------------------------------------------------------------


class Counter:
    """What the threads of the first two programs share."""

    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()


def increment(counter: Counter) -> None:
    """One increment that is not atomic: another thread may come in between."""
    value = counter.value
    time.sleep(0)
    counter.value = value + 1


def five_under_a_lock(counter: Counter) -> None:
    """Five increments, each under the lock."""
    for _ in range(5):
        with counter.lock:
            counter.value += 1


def add_one(counter: Counter) -> None:
    """The same increment where only memory is shared: an attribute is read, and written."""
    counter.value += 1


class Table:
    """Three forks."""

    def __init__(self) -> None:
        self.forks = [threading.Lock() for _ in range(3)]
        self.seats = iter(range(3))


def dine(table: Table, seat: int) -> None:
    """Take the fork to the left, then the one to the right."""
    with table.forks[seat], table.forks[(seat + 1) % 3]:
        pass


def dine_in_order(table: Table, seat: int) -> None:
    """Take the lower fork first."""
    first, second = sorted((seat, (seat + 1) % 3))
    with table.forks[first], table.forks[second]:
        pass


def program(
    make: Callable[[], Any], bodies: list[Callable[[Any], None]], check: Callable[[Any], bool] = bool
) -> Callable[[], None]:
    """A test function that starts a thread for each of `bodies`, joins them, and asserts a `check`."""

    def test() -> None:
        shared = make()
        threads = [threading.Thread(target=body, args=(shared,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert check(shared)

    return test


INCREMENTS: tuple[Callable[[], Any], list[Any]] = (Counter, [increment] * 2)
UPDATES: tuple[Callable[[], Any], list[Any]] = (Counter, [add_one] * 2)
LOCKED: tuple[Callable[[], Any], list[Any]] = (Counter, [five_under_a_lock] * 3)
DINNER: tuple[Callable[[], Any], list[Any]] = (Table, [lambda t, s=s: dine(t, s) for s in range(3)])
ORDERLY: tuple[Callable[[], Any], list[Any]] = (Table, [lambda t, s=s: dine_in_order(t, s) for s in range(3)])


# ---- The contestants -------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Executions, and the seconds they took."""

    executions: int
    cpu: float
    wall: float


@contextlib.contextmanager
def timing() -> Iterator[list[float]]:
    """The seconds of CPU and of the wall clock that the body takes."""
    seconds: list[float] = []
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    yield seconds
    seconds += [time.process_time() - cpu, time.perf_counter() - wall]


def at_operations_only() -> dict[str, Any]:
    """The option that leaves accesses to memory out of the choice points: what is measured is the same for all."""
    from greenthreads.testing import explore

    return {name: False for name in ("memory",) if name in inspect.signature(explore).parameters}


def ours(strategy: str, memory: bool = False) -> Callable[[Any, int], Measured]:
    """`greenthreads.testing.explore`."""

    def measure(what: Any, executions: int) -> Measured:
        from greenthreads.testing import explore

        test = program(*what)
        options = {} if memory else at_operations_only()
        with timing() as seconds:
            found = explore(test, strategy=strategy, max_executions=executions, max_seconds=None, **options)
        assert found.failure is None
        return Measured(found.executions, *seconds)

    return measure


def ours_over_and_over(what: Any, executions: int) -> Measured:
    """DPOR, which has seen everything after a few executions: inside of one session, again and again."""
    from greenthreads.testing._memory import Memory, root_of
    from greenthreads.testing._session import Session
    from scheduler.strategies import by_name

    test = program(*what)
    done = 0
    with timing() as seconds, Session(test, memory=Memory((), root_of(test))) as session:
        while done < executions:
            strategy = by_name("dpor", 0, None, True)
            while strategy.begin():
                assert session.run(strategy) is None
                done += 1
    return Measured(done, *seconds)


def interleave_test(strategy: str, granularity: str) -> Callable[[Any, int], Measured]:
    """`interleave_test.explore`."""

    def measure(what: Any, executions: int) -> Measured:
        import interleave_test as peer

        with timing() as seconds:
            result = peer.explore(
                program(*what), iterations=executions, seed=1, strategy=strategy, granularity=granularity,
                raise_on_failure=False,
            )  # fmt: skip
        return Measured(result.iterations if hasattr(result, "iterations") else executions, *seconds)

    return measure


def frontrun(strategy: str) -> Callable[[Any, int], Measured]:
    """`frontrun.explore`."""

    def measure(what: Any, executions: int) -> Measured:
        import frontrun as peer
        from frontrun.cli import FRONTRUN_ACTIVE_ENV

        # What its command line does beside loading a library that watches files and sockets, which are not used here.
        os.environ[FRONTRUN_ACTIVE_ENV] = "1"
        make, bodies = what
        count = 0

        def counted() -> Any:
            nonlocal count
            count += 1
            return make()

        options: dict[str, Any] = {"stop_on_first": False, "max_executions": executions}
        if strategy == "random":
            options = {"max_attempts": executions, "seed": 1}
        with timing() as seconds:
            while count < executions:  # It has seen all that it wants to see after a few.
                peer.explore(counted, bodies, lambda _: True, strategy=strategy, detect_io=False, **options)
        return Measured(count, *seconds)

    return measure


Contestants = list[tuple[str, "Callable[[Any, int], Measured]", str, int]]

# Name, what measures it, whose it is, and how many executions a round has for how many of ours.
AT_OPERATIONS: Contestants = [
    ("greenthreads dfs", ours("dfs"), "greenthreads", 1),
    ("greenthreads random", ours("random"), "greenthreads", 1),
    ("greenthreads auto", ours("auto"), "greenthreads", 1),
]
AT_MEMORY: Contestants = [
    ("greenthreads dfs", ours("dfs", memory=True), "greenthreads", 1),
    ("greenthreads random", ours("random", memory=True), "greenthreads", 1),
    ("greenthreads dpor, over and over", ours_over_and_over, "greenthreads", 1),
]
PEERS: Contestants = [
    ("frontrun random", frontrun("random"), "frontrun", 25),
    ("frontrun dpor", frontrun("dpor"), "frontrun", 25),
    ("interleave-test random", interleave_test("random", "opcode"), "interleave_test", 25),
    ("interleave-test random, lines", interleave_test("random", "line"), "interleave_test", 25),
    ("interleave-test dfs", interleave_test("dfs", "opcode"), "interleave_test", 25),
    ("interleave-test dfs, lines", interleave_test("dfs", "line"), "interleave_test", 25),
]


def speed(title: str, what: Any, executions: int, rounds: int, we: Contestants) -> None:
    """Print executions per second of everybody who is here, and how many times faster we are."""
    there = [each for each in [*we, *PEERS] if find_spec(each[2]) is not None]
    results: dict[str, list[Measured]] = {name: [] for name, *_ in there}
    for _ in range(rounds):
        for name, measure, _module, fewer in there:
            results[name].append(measure(what, max(1, executions // fewer)))
    print(f"\n{title}: executions per second")
    print(f"{'':32} {'of CPU':>9} {'of wall':>9} {'executions':>11} {'ours / it':>10}")
    best = max(median(m.executions / m.cpu for m in results[name]) for name in results if name.startswith("green"))
    for name, measured in results.items():
        cpu = median(m.executions / m.cpu for m in measured)
        wall = median(m.executions / m.wall for m in measured)
        print(f"{name:32} {cpu:9,.0f} {wall:9,.0f} {measured[0].executions:11,} {best / cpu:10.1f}")


def lost_update(rounds: int) -> None:
    """Print how long it takes us to find a lost update of an attribute, and to see all that its program can do."""
    from greenthreads.testing import explore
    from greenthreads.testing._memory import Memory, root_of
    from greenthreads.testing._session import Session
    from scheduler.strategies import by_name

    print("\nLost update of an attribute, two threads: milliseconds of CPU")
    test = program(*UPDATES, lambda counter: counter.value == 2)
    times: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for strategy in ("auto", "dpor"):
        explore(program(*UPDATES), strategy=strategy)  # What is imported and compiled once.
        for _ in range(rounds):
            with timing() as whole, Session(test, memory=Memory((), root_of(test))) as session, timing() as inside:
                session.looks_for_races = True
                plan = by_name(strategy, 0, None, True)
                executions, failed = 0, None
                while failed is None:
                    plan.begin()
                    executions += 1
                    failed = session.run(plan)
            assert failed.kind == "assertion"
            name = f"found by the executions of {strategy}"
            times.setdefault(name, []).append(inside[0])
            times.setdefault("  with entering and leaving a session", []).append(whole[0])
            counts[name] = executions
    for _ in range(rounds):
        with timing() as whole:
            found = explore(test)
        assert found.failure is not None
        times.setdefault("found, repeated, shrunk and explained", []).append(whole[0])
        with timing() as whole:
            found = explore(program(*UPDATES), strategy="dpor")
        assert found.exhausted
        times.setdefault("all that can happen (dpor)", []).append(whole[0])
        counts["all that can happen (dpor)"] = found.executions
    for name, measured in times.items():
        count = f"   {counts[name]} executions" if name in counts else ""
        print(f"{name:45} {median(measured) * 1e3:9.2f}{count}")


def dinner(rounds: int) -> None:
    """Print how long it takes us to find the deadlock of the philosophers, and to see all that the repaired do."""
    from greenthreads.testing import explore
    from greenthreads.testing._session import Session
    from scheduler.strategies import by_name

    print("\nThree dining philosophers: milliseconds of CPU")
    first: list[float] = []
    whole: list[float] = []
    explore(program(*DINNER), **at_operations_only())  # What is imported and compiled once.
    for _ in range(rounds):
        executions = 0
        with timing() as seconds:
            strategy = by_name("auto", 0)
            with Session(program(*DINNER)) as session:
                failed = None
                while failed is None:
                    strategy.begin()
                    executions += 1
                    failed = session.run(strategy)
        assert failed.kind == "deadlock"
        first.append(seconds[0])
        with timing() as seconds:
            found = explore(program(*DINNER), **at_operations_only())
        assert found.failure is not None
        whole.append(seconds[0])
    print(f"{'deadlock found (auto)':45} {median(first) * 1e3:9.1f}   after {executions} executions")
    print(f"{'found, repeated, shrunk and explained':45} {median(whole) * 1e3:9.1f}")
    for bound in (0, 1, 2):
        whole.clear()
        for _ in range(max(1, rounds // 2)):
            with timing() as seconds:
                found = explore(
                    program(*ORDERLY),
                    strategy="dfs",
                    preemption_bound=bound,
                    max_executions=None,
                    max_seconds=None,
                    **at_operations_only(),
                )
            assert found.failure is None
            whole.append(seconds[0])
        print(
            f"{f'all schedules of at most {bound} preemptions (dfs)':45} {median(whole) * 1e3:9.1f}"
            f"   {found.executions:,} executions, {found.executions / median(whole):,.0f} per second"
        )


def memory(executions: int) -> None:
    """Print resident memory, threads and greenlets in the course of a long exploration."""
    from greenlet import greenlet

    from greenthreads.testing import explore

    def resident() -> float:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def look(found: Any) -> None:
        if found.executions % (executions // 10) == 0:
            print(f"{found.executions:11,} {resident():12.1f} {threading.active_count():8}")

    print(f"{'executions':>11} {'resident MB':>12} {'threads':>8}")
    began = time.process_time()
    found = explore(
        program(*INCREMENTS),
        strategy="random",
        max_executions=executions,
        max_seconds=None,
        progress=look,
        **at_operations_only(),
    )
    seconds = time.process_time() - began
    gc.collect()
    left = sum(type(each) is greenlet or isinstance(each, greenlet) for each in gc.get_objects())
    print(f"{found.executions:,} executions, {found.executions / seconds:,.0f} per second of CPU")
    print(f"afterwards: {left} greenlets (the main one is one), {threading.active_count()} threads")


def main() -> None:
    """The table, or the memory of a long run."""
    parser = argparse.ArgumentParser(description="Measure exploration beside its peers.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--executions", type=int, default=5000, help="in a round, of ours; peers have fewer")
    parser.add_argument("--memory", type=int, metavar="EXECUTIONS", help="instead: one long exploration")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if options.memory:
        memory(options.memory)
        return
    speed("2 threads x 1 increment", INCREMENTS, options.executions, options.rounds, AT_OPERATIONS)
    speed("3 threads x 5 increments under a lock", LOCKED, options.executions, options.rounds, AT_OPERATIONS)
    speed("2 threads x 1 update of an attribute", UPDATES, options.executions, options.rounds, AT_MEMORY)
    lost_update(options.rounds)
    dinner(options.rounds)


if __name__ == "__main__":
    main()
