"""Three small classes with a bug that hardly ever shows, and the test harness that finds it each time.

They are ordinary code, with `import threading`, and so are their tests. Each test is run under many
schedules, until one breaks it or every one has been seen; what was found is made small and named.
The repaired classes then pass under all schedules. A fourth class has no test: it is enough to name
the calls that may be made on it.

How to run it, how to read what has happened, step by step, and how to have it happen again:

    python examples/find_the_bug.py
    python examples/find_the_bug.py --report pool
    python examples/find_the_bug.py --replay pool TRACE
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

from greenthreads.testing import (
    Call,
    Failure,
    NotLinearizable,
    ReplayDivergence,
    TraceError,
    check_linearizable,
    explore,
    replay,
)


class Pool:
    """Lends connections. Who finds none waits until one is given back."""

    def __init__(self, connections: list[str]) -> None:
        self.free = list(connections)
        self.changed = threading.Condition()

    def take(self) -> str:
        with self.changed:
            if not self.free:  # somebody else may be faster than the one that is woken
                self.changed.wait()
            return self.free.pop()

    def give_back(self, connection: str) -> None:
        with self.changed:
            self.free.append(connection)
            self.changed.notify()


class RepairedPool(Pool):
    def take(self) -> str:
        with self.changed:
            while not self.free:
                self.changed.wait()
            return self.free.pop()


class Account:
    """Has a balance, and a lock for it."""

    def __init__(self, number: int, balance: int) -> None:
        self.number, self.balance = number, balance
        self.lock = threading.Lock()

    def transfer(self, other: Account, amount: int) -> None:
        with self.lock, other.lock:  # and the other way round in a transfer back
            self.balance -= amount
            other.balance += amount


class RepairedAccount(Account):
    def transfer(self, other: Account, amount: int) -> None:
        first, second = sorted((self, other), key=lambda account: account.number)
        with first.lock, second.lock:
            self.balance -= amount
            other.balance += amount


class Hits:
    """Counts, and takes no lock for it: what could go wrong with a single line?"""

    def __init__(self) -> None:
        self.count = 0

    def hit(self) -> None:
        self.count += 1


class RepairedHits(Hits):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def hit(self) -> None:
        with self.lock:
            self.count += 1


class Tickets:
    """Sells what is left."""

    def __init__(self) -> None:
        self.left = 1
        self.lock = threading.Lock()

    def buy(self) -> bool:
        if not self.left:  # without the lock: another one may buy before we do
            return False
        with self.lock:
            self.left -= 1
            return True

    def give_back(self) -> None:
        with self.lock:
            self.left += 1


class RepairedTickets(Tickets):
    def buy(self) -> bool:
        with self.lock:
            if not self.left:
                return False
            self.left -= 1
            return True


# ---- The tests ----------------------------------------------------------------------------------


def run_all(*targets: Callable[[], object]) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def use_a_pool(kind: type[Pool]) -> None:
    pool = kind(["a connection"])

    def use() -> None:
        pool.give_back(pool.take())

    run_all(use, use, use)
    assert pool.free == ["a connection"]


def transfer_both_ways(kind: type[Account]) -> None:
    mine, yours = kind(1, 100), kind(2, 100)
    run_all(partial(mine.transfer, yours, 10), partial(yours.transfer, mine, 20))
    assert (mine.balance, yours.balance) == (110, 90)


def hit_twice(kind: type[Hits]) -> None:
    hits = kind()
    run_all(hits.hit, hits.hit)
    assert hits.count == 2


# By name: the test of the broken class, and the same test of the repaired one.
TESTS: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "pool": (partial(use_a_pool, Pool), partial(use_a_pool, RepairedPool)),
    "accounts": (partial(transfer_both_ways, Account), partial(transfer_both_ways, RepairedAccount)),
    "hits": (partial(hit_twice, Hits), partial(hit_twice, RepairedHits)),
}
CALLS = [Call("buy"), Call("give_back")]


# ---- What the harness finds ---------------------------------------------------------------------


def broken(name: str) -> Failure:
    """What is found in a broken class."""
    if name == "tickets":
        try:
            check_linearizable(Tickets, CALLS)
        except NotLinearizable as error:
            return error.failure
    elif (failure := explore(TESTS[name][0], replay_command=f"find_the_bug.py --replay {name} ").failure) is not None:
        return failure
    raise SystemExit(f"the bug of {name!r} was not found: that should not happen")


def repaired(name: str) -> str:
    """What was seen of a repaired class."""
    if name == "tickets":
        return check_linearizable(RepairedTickets, CALLS, max_scenarios=20).coverage
    found = explore(TESTS[name][1], strategy="dpor")
    if found.failure is not None:
        raise SystemExit(found.failure.report())
    return found.coverage


def show(name: str) -> None:
    """Say what was found in a class, and that nothing is found in its repaired twin."""
    failure = broken(name)
    pattern = "" if failure.pattern is None else f", {failure.pattern}"
    print(f"{name}: {failure.kind} with {failure.preemptions} preemption{'s' * (failure.preemptions != 1)}{pattern}")
    print(f"  {failure.trace}")
    print(f"  repaired: {repaired(name)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the bugs of four small classes.", allow_abbrev=False)
    names = [*TESTS, "tickets"]
    which = f"what happens, step by step: {', '.join(names)}"
    parser.add_argument("--report", choices=names, metavar="NAME", help=which)
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "TRACE"), help="have it happen again")
    arguments = parser.parse_args()
    if arguments.report is not None:
        print(broken(arguments.report).report())
    elif arguments.replay is not None:
        name, trace = arguments.replay
        if name not in TESTS:
            parser.error(f"there is no test named {name!r}, but {', '.join(TESTS)}")
        try:
            replay(TESTS[name][0], trace)
        except (TraceError, ReplayDivergence) as error:
            parser.error(str(error))
        except Exception as error:
            sys.exit(f"again: {error!r}")
        print("it passes")
    else:
        for name in names:
            show(name)


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` has read enough: the end, and no error
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
