"""Threads that poll: they hang no search, and what only looks like polling is explored in full."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import pytest
from bugs import OPERATIONS_ONLY
from plain import explore
from together import together

from greenthreads.testing._session import Session
from scheduler.strategies import by_name


def everything(fn: Any, early: bool = False) -> set[Any]:
    """What `fn` returns, over all its executions. It must have no other end."""
    seen = set()
    with Session(lambda: seen.add(fn()), early=early, max_steps=500) as session:
        strategy = by_name("dfs", 0)
        while strategy.begin():
            assert session.run(strategy) is None
        assert strategy.exhausted
    return seen


def test_a_loop_with_yields_is_no_polling() -> None:
    def increments() -> int:
        counter = 0

        def three_times() -> None:
            nonlocal counter
            for _ in range(3):
                value = counter
                time.sleep(0)
                counter = value + 1

        together(three_times, three_times)
        return counter

    # A thread writes and reads again in one step, so at least one of the two sees each of its rounds through.
    assert everything(increments) == {3, 4, 5, 6}


def test_yields_in_a_row_are_no_polling() -> None:
    def moments() -> tuple[int, ...]:
        x = 0
        seen = []

        def write() -> None:
            nonlocal x
            x = 1
            time.sleep(0)
            x = 2
            time.sleep(0)
            x = 3

        def read() -> None:
            seen.append(x)
            time.sleep(0)
            seen.append(x)
            time.sleep(0)
            seen.append(x)

        together(write, read)
        return tuple(seen)

    rising = {(a, b, c) for a in range(4) for b in range(a, 4) for c in range(b, 4)}
    assert everything(moments) == rising


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("poll", ["is_set", "yield", "sleep", "wait", "try", "get"])
def test_polling_hangs_no_search(poll: str, early: bool) -> None:
    def main() -> None:
        flag = threading.Event()
        lock = threading.Lock()
        items: queue.Queue[int] = queue.Queue()
        lock.acquire()

        def wait() -> None:
            while not flag.is_set():
                if poll == "yield":
                    time.sleep(0)
                elif poll == "sleep":
                    time.sleep(0.1)
                elif poll == "wait":
                    flag.wait(0.1)
                elif poll == "try":
                    lock.acquire(blocking=False)
                elif poll == "get":
                    try:
                        items.get(timeout=0.1)
                    except queue.Empty:
                        pass

        def work() -> None:
            for _ in range(2):
                with items.mutex:
                    pass
            flag.set()

        together(wait, wait, work)

    timeouts = "early" if early else "due"
    found = explore(
        main,
        strategy="dfs",
        timeouts=timeouts,  # type: ignore[arg-type]
        max_steps=300,
        max_executions=300,
        **OPERATIONS_ONLY,  # type: ignore[arg-type]
    )
    assert found.failure is None, found.failure.report()


def test_of_waits_that_are_due_together_each_may_be_first() -> None:
    def main() -> bool:
        lock = threading.Lock()
        lock.acquire()

        def hold() -> None:
            time.sleep(1)
            lock.release()

        thread = threading.Thread(target=hold)
        thread.start()
        taken = lock.acquire(timeout=1)
        thread.join()
        return taken

    # At once if the other one has not begun to sleep: then it is due later. Else they are due together.
    assert everything(main) == {True, False}


def test_a_free_lock_is_taken_however_early_timeouts_are() -> None:
    def main() -> bool:
        lock = threading.Lock()

        def sleep() -> None:
            time.sleep(1)

        thread = threading.Thread(target=sleep)
        thread.start()
        taken = lock.acquire(timeout=1)
        thread.join()
        return taken

    assert everything(main, early=True) == {True}


def test_a_wait_that_is_over_does_not_end_early_as_well() -> None:
    def main() -> bool:
        event = threading.Event()
        result = []
        together(lambda: result.append(event.wait(1)), event.set)
        return result[0]

    assert everything(main, early=True) == {True, False}


@pytest.mark.parametrize("timeouts", ["due", "early"])
@pytest.mark.parametrize("strategy", ["dfs", "dpor", "random"])
def test_while_all_others_poll_sleepers_wake_one_after_the_other(strategy: str, timeouts: str) -> None:
    def test() -> None:
        done: list[int] = []

        def sleep(seconds: int) -> None:
            time.sleep(seconds)
            done.append(seconds)

        for seconds in (1, 2):
            threading.Thread(target=sleep, args=(seconds,)).start()
        while len(done) < 2:
            time.sleep(0)
        assert timeouts == "early" or done == [1, 2]

    found = explore(test, strategy=strategy, timeouts=timeouts, max_executions=100)
    assert found.failure is None, found.failure.report()


@pytest.mark.parametrize("strategy", ["dfs", "dpor", "random"])
def test_while_all_others_poll_the_only_sleeper_wakes(strategy: str) -> None:
    def test() -> None:
        done: list[int] = []
        threading.Thread(target=lambda: (time.sleep(1), done.append(1))).start()
        while not done:
            time.sleep(0)

    found = explore(test, strategy=strategy, max_executions=100)
    assert found.failure is None, found.failure.report()
