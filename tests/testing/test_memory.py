"""Shared memory as choice points: races that no lock, yield or sleep gives away, found in ordinary code."""

from __future__ import annotations

import _thread
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from together import together

from greenthreads.testing import explore, replay
from greenthreads.testing._memory import root_of


class Account:
    """Something with attributes."""

    def __init__(self) -> None:
        self.balance = 0
        self.lock = threading.Lock()


def attribute(guarded: bool) -> None:
    account = Account()

    def deposit() -> None:
        if guarded:
            with account.lock:
                account.balance += 1
        else:
            account.balance += 1

    together(deposit, deposit)
    assert account.balance == 2


def closure(guarded: bool) -> None:
    count = 0
    lock = threading.Lock()

    def increment() -> None:
        nonlocal count
        if guarded:
            with lock:
                count += 1
        else:
            count += 1

    together(increment, increment)
    assert count == 2


total = 0


def module_global(guarded: bool) -> None:
    global total
    total = 0
    lock = threading.Lock()

    def increment() -> None:
        global total
        if guarded:
            with lock:
                total += 1
        else:
            total += 1

    together(increment, increment)
    assert total == 2


def check_then_act(guarded: bool) -> None:
    cache: dict[str, object] = {}
    made: list[object] = []
    lock = threading.Lock()

    def get() -> None:
        if guarded:
            with lock:
                fill()
        else:
            fill()

    def fill() -> None:
        if "key" not in cache:
            cache["key"] = object()
            made.append(cache["key"])

    together(get, get)
    assert len(made) == 1


def look_then_pop(guarded: bool) -> None:
    items = [1]
    lock = threading.Lock()

    def take() -> None:
        if guarded:
            with lock:
                if items:
                    items.pop(0)
        elif items:
            items.pop(0)

    together(take, take)


def torn_read(guarded: bool) -> None:
    point = {"x": 0, "y": 0}
    lock = threading.Lock()

    def move() -> None:
        if guarded:
            with lock:
                point["x"] = 1
                point["y"] = 1
        else:
            point["x"] = 1
            point["y"] = 1

    def look() -> None:
        if guarded:
            with lock:
                seen = (point["x"], point["y"])
        else:
            seen = (point["x"], point["y"])
        assert seen[0] == seen[1]

    together(move, look)


PROGRAMS: list[Any] = [attribute, closure, module_global, check_then_act, look_then_pop, torn_read]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_race_is_found_and_replayed_and_the_lock_repairs_it(program: Callable[[bool], None]) -> None:
    def broken() -> None:
        program(False)

    def repaired() -> None:
        program(True)

    found = explore(broken)
    assert found.failure is not None
    assert found.failure.preemptions == 1
    with pytest.raises(type(found.failure.exception)):
        replay(broken, found.failure.trace)
    proven = explore(repaired)
    assert proven.failure is None
    assert proven.exhausted


def test_a_lost_update_is_found_by_the_second_execution_of_four() -> None:
    assert explore(lambda: attribute(False), strategy="dpor").executions == 2

    def whatever_comes() -> None:
        account = Account()

        def deposit() -> None:
            account.balance += 1

        together(deposit, deposit)

    all_of_them = explore(whatever_comes, strategy="dpor")
    assert all_of_them.exhausted
    assert all_of_them.executions == 4


def test_the_report_shows_who_looked_at_a_container_that_another_one_changed() -> None:
    failure = explore(lambda: look_then_pop(False), strategy="dpor").failure
    assert failure is not None
    table = failure.report(width=160).split("\n\n")[1].splitlines()
    steps = [line.split("test_memory.py")[0].split(maxsplit=1)[1].strip() for line in table[2:-1] if " items" in line]
    # Who comes too late looks at the length, finds none, and pops.
    assert steps == ["read items", "read items", "write items[0] = 1", "read items"]
    # What only one thread touches is left out.
    assert "lock" not in failure.report()


def test_what_is_seen_is_named() -> None:
    found = explore(lambda: attribute(True), strategy="dpor")
    seen = found.coverage.partition("memory accesses seen in ")[2].partition(";")[0]
    assert __name__ in seen.split(", ")
    assert f"{__name__} (no source)" not in found.coverage


def test_without_memory_nothing_is_claimed_of_it() -> None:
    found = explore(lambda: attribute(False), memory=False)
    assert found.failure is None
    assert "memory" not in found.coverage


def test_the_root_is_the_project_s() -> None:
    root = root_of(test_the_root_is_the_project_s)
    assert root is not None
    assert __file__.startswith(root)


def test_an_operation_on_several_objects_is_one_step() -> None:
    """With a step for each list, a thread would be taken to have read one before what it reads only after."""
    seen: set[tuple[bool, int]] = set()

    def compare() -> None:
        left: list[int] = []
        right: list[int] = []
        equal: list[bool] = []

        def grow() -> None:
            left.append(1)
            right.append(1)

        together(lambda: equal.append(left == right), grow)
        seen.add((equal[0], len(left)))

    found = explore(compare, strategy="dpor")
    assert found.exhausted
    # Before, between and after the two that grow them.
    assert found.executions == 3
    assert seen == {(True, 1), (False, 1)}
    assert "list" in str(found.races[0])


def test_a_function_of_c_that_a_thread_is_given_announces_what_it_touches() -> None:
    def thread(append: Callable[[int], object], number: int) -> None:
        threading.Thread(target=append, args=(number,)).start()

    def low_level(append: Callable[[int], object], number: int) -> None:
        _thread.start_new_thread(append, (number,))

    def timer(append: Callable[[int], object], number: int) -> None:
        threading.Timer(0, append, (number,)).start()

    def tasks(append: Callable[[int], object], number: int) -> None:
        pool = ThreadPoolExecutor(1)
        pool.submit(append, number)
        pool.shutdown(wait=False)

    for start in (thread, low_level, timer, tasks):
        seen: set[tuple[int, ...]] = set()

        def main(
            start: Callable[[Callable[[int], object], int], None] = start, seen: set[tuple[int, ...]] = seen
        ) -> None:
            record: list[int] = []
            for number in (1, 2):
                start(record.append, number)
            time.sleep(5)
            seen.add(tuple(record))

        found = explore(main, strategy="dpor")
        assert (start.__name__, found.exhausted, seen) == (start.__name__, True, {(1, 2), (2, 1)})


def test_a_predicate_of_c_announces_what_it_touches() -> None:
    seen = set()

    def main() -> None:
        condition = threading.Condition()
        record: list[int] = []

        def wait() -> None:
            with condition:
                seen.add(condition.wait_for(record.copy, timeout=0) == [1])

        def append() -> None:
            record.append(1)

        together(wait, append)

    assert explore(main, strategy="dpor").exhausted
    assert seen == {True, False}


def test_a_check_and_what_is_done_after_it_in_both_orders() -> None:
    made: set[tuple[int, ...]] = set()

    def test() -> None:
        cache: dict[str, int] = {}
        makers: list[int] = []

        def get(number: int) -> None:
            if "key" not in cache:
                cache["key"] = number
                makers.append(number)

        together(lambda: get(1), lambda: get(2))
        made.add(tuple(makers))

    found = explore(test, strategy="dpor")
    assert found.exhausted
    # One of them makes it; or both do, and either may be first.
    assert made == {(1,), (2,), (1, 2), (2, 1)}


def test_reads_of_the_same_in_several_threads_take_one_execution() -> None:
    def test() -> None:
        account = Account()
        together(lambda: account.balance, lambda: account.balance, lambda: [account.balance, account.balance])

    found = explore(test, strategy="dpor")
    assert found.exhausted
    assert found.executions == 1


def test_a_test_may_be_the_first_to_import_what_is_patched() -> None:
    """Two finders stand on `sys.meta_path` then, and each asks those behind it."""
    program = """
import sys
from greenthreads.testing import explore

def use():
    from multiprocessing.connection import Pipe
    here, there = Pipe()
    here.send(1)
    assert there.recv() == 1

assert "multiprocessing.connection" not in sys.modules
print(explore(use, max_executions=3, max_seconds=None).failure)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "None\n", done.stderr


@pytest.mark.parametrize("key", [id, lambda obj: ("of", id(obj))], ids=["an id", "one in a tuple"])
def test_keys_that_are_addresses_differ_from_one_execution_to_the_next(key: Callable[[object], Any]) -> None:
    kept: list[object] = []  # so that none comes to be where another was

    def main(locked: bool) -> None:
        model = object()
        kept.append(model)
        lock = threading.Lock() if locked else contextlib.nullcontext()
        counts = {key(model): 0}

        def count() -> None:
            with lock:
                counts[key(model)] += 1

        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts[key(model)] == 2

    found = explore(lambda: main(False), strategy="dpor", max_seconds=None).failure
    assert found is not None
    assert found.kind == "assertion"
    result = explore(lambda: main(True), strategy="dpor", max_seconds=None)
    assert (result.failure, result.exhausted) == (None, True)
