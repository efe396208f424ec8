"""`explore` and `replay`: what is found, what is reported, and that it fails again."""

from __future__ import annotations

import functools
import itertools
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from plain import explore, replay
from together import together

import greenthreads.testing
from greenthreads.testing import _search

STRATEGIES = ("auto", "dfs", "pct", "pos", "random", "round_robin", "surw")


def lost_update() -> None:
    counter = 0

    def increment() -> None:
        nonlocal counter
        value = counter
        time.sleep(0)
        counter = value + 1

    together(increment, increment)
    assert counter == 2


def update_under_a_lock() -> None:
    counter = 0
    lock = threading.Lock()

    def increment() -> None:
        nonlocal counter
        with lock:
            value = counter
            time.sleep(0)
            counter = value + 1

    together(increment, increment)
    assert counter == 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_finds_a_lost_update_that_can_be_replayed(strategy: str) -> None:
    found = explore(lost_update, strategy=strategy, max_executions=200)
    assert found.failure is not None
    assert found.failure.kind == "assertion"
    # Switching at a yield is no preemption.
    assert found.failure.preemptions == 0
    for _ in range(3):
        with pytest.raises(AssertionError):
            replay(lost_update, found.failure.trace)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_finds_fault_with_the_repaired_one(strategy: str) -> None:
    found = explore(update_under_a_lock, strategy=strategy, max_executions=200)
    assert found.failure is None


def test_a_small_program_is_exhausted() -> None:
    found = explore(update_under_a_lock, strategy="dfs", memory=False)
    assert found.exhausted
    assert found.coverage == (
        f"{found.executions} executions: every schedule of the threads' operations on primitives; "
        "time passed only when nothing else could run"
    )


def test_a_deadlock_has_its_cycle() -> None:
    def main() -> None:
        a, b = threading.Lock(), threading.Lock()

        def one() -> None:
            with a, b:
                pass

        def other() -> None:
            with b, a:
                pass

        together(one, other)

    found = explore(main)
    assert found.failure is not None
    assert found.failure.kind == "deadlock"
    threads: Any = found.failure.exception.threads  # type: ignore[attr-defined]
    assert {row.thread for row in threads[:2]} == {"Thread-1 (one)", "Thread-2 (other)"}


def test_if_for_while_around_a_wait() -> None:
    def program(again: bool) -> None:
        items: list[int] = []
        condition = threading.Condition()

        def consume() -> None:
            with condition:
                while not items:
                    condition.wait()
                    if not again:
                        break
                items.pop()

        def produce() -> None:
            for _ in range(2):
                with condition:
                    items.append(1)
                    condition.notify_all()

        together(consume, consume, produce)

    broken = explore(lambda: program(False))
    assert broken.failure is not None
    assert isinstance(broken.failure.exception, IndexError)
    assert explore(lambda: program(True), max_executions=500).failure is None


def test_standard_names_are_there_again_afterwards() -> None:
    before = (threading.Lock, threading.Thread.start, queue.Queue, time.sleep, time.monotonic, threading.excepthook)
    explore(lost_update)
    explore(update_under_a_lock, max_executions=10)
    assert before == (
        threading.Lock, threading.Thread.start, queue.Queue, time.sleep, time.monotonic, threading.excepthook
    )  # fmt: skip


def test_sleeping_takes_no_time_and_orders_things() -> None:
    def main() -> None:
        record: list[str] = []

        def later() -> None:
            time.sleep(1000)
            record.append("later")

        thread = threading.Thread(target=later)
        began = time.monotonic()
        thread.start()
        time.sleep(500)
        record.append("sooner")
        thread.join()
        assert record == ["sooner", "later"]
        assert time.monotonic() - began == 1000

    found = explore(main)
    assert found.failure is None
    assert found.exhausted
    # With early timeouts a sleep may end at any time.
    assert explore(main, timeouts="early").failure is not None


def test_a_loop_that_polls_hangs_no_search() -> None:
    def main() -> None:
        flag = threading.Event()

        def poll() -> None:
            while not flag.is_set():
                pass

        thread = threading.Thread(target=poll)
        thread.start()
        flag.set()
        thread.join()

    found = explore(main, strategy="dfs")
    assert found.failure is None
    # Where memory is not watched, the loop may remember something.
    assert "but that a thread that was taken to poll in vain was not let on" in found.coverage
    assert not found.exhausted
    found = greenthreads.testing.explore(main, strategy="dpor")
    assert "where a thread that polls in vain lets others run" in found.coverage
    assert found.exhausted


def test_a_livelock_is_one() -> None:
    def main() -> None:
        while True:
            time.sleep(0)

    found = explore(main, max_steps=300)
    assert found.failure is not None
    assert found.failure.kind == "livelock"


async def waits() -> None:
    pass


def gives() -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("fn", "options", "error", "text"),
    [
        (None, {}, TypeError, "what is explored must be a function, not NoneType"),
        (waits, {}, TypeError, "waits is async: what is explored are the schedules of threads"),
        (gives, {}, TypeError, "gives is a generator function: a call of it runs nothing"),
        (print, {"include": "os"}, TypeError, "include must be a list of names of modules, not 'os': write ['os']"),
        (print, {"include": [3]}, TypeError, "include must be a list of names of modules, with no 3 in it"),
        (print, {"store": "here"}, TypeError, "store must be a Store or None, not str"),
        (print, {"first": "g1:0B"}, TypeError, "first must be a list of traces, not one: write ['g1:0B']"),
        (
            print,
            {"first": ["g1:0B"]},
            greenthreads.testing.TraceError,
            "'g1:0B' is damaged (its checksum does not fit): copy the whole of it",
        ),
        (print, {"races": "find"}, ValueError, "races must be 'report', 'fail' or 'off', not 'find'"),
        (print, {"timeouts": "late"}, ValueError, "timeouts must be 'due' or 'early', not 'late'"),
        (print, {"max_executions": 0}, ValueError, "max_executions must be above 0, or None for no limit, not 0"),
        (print, {"max_seconds": -1.5}, ValueError, "max_seconds must be above 0, or None for no limit, not -1.5"),
        (print, {"max_steps": 0}, ValueError, "max_steps must be above 0, or None for the default, not 0"),
        (print, {"max_seconds": "1"}, TypeError, "max_seconds must be a number or None, not str"),
        (
            print,
            {"strategy": "random", "preemption_bound": 1},
            ValueError,
            "'random' knows no bound on preemptions; 'auto', 'dfs', 'dpor' do",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(fn: Any, options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        explore(fn, **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(("returned", "kind"), [(waits, "coroutine"), (gives, "generator")])
def test_what_a_function_returns_must_not_be_what_it_should_have_run(returned: Any, kind: str) -> None:
    def runs_nothing() -> object:
        return returned()

    failure = explore(runs_nothing).failure
    assert failure is not None
    assert isinstance(failure.exception, TypeError)
    assert str(failure.exception) == f"the function has returned a {kind} that nobody has run"


@pytest.mark.parametrize("fn", [waits, gives, functools.partial(waits)])
def test_what_runs_nothing_is_not_decorated(fn: Any) -> None:
    with pytest.raises(TypeError, match=r"is async|is a generator function"):
        greenthreads.testing.interleave()(fn)


def test_the_time_is_looked_at_after_each_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search, "_now", itertools.count().__next__)
    # One second for each look.
    found = explore(update_under_a_lock, strategy="random", max_seconds=3)
    assert found.executions == 4
