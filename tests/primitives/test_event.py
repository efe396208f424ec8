"""`Event`: a flag for threads of both kinds."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from greenthreads import Event, Thread, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


def test_set_lets_all_go_who_wait_and_who_come(pair: Any, until: Any) -> None:
    event, record = Event(), []

    def wait(name: str) -> None:
        record.append((name, event.wait()))

    def main() -> None:
        threads = [pair.start(wait, name) for name in "ab"]
        until(lambda: len(event._waiters) == 2)
        assert record == []
        event.set()
        wait("late")
        for thread in threads:
            thread.join()

    pair.run(main)
    assert sorted(record) == [("a", True), ("b", True), ("late", True)]


def test_user_threads_go_in_the_order_in_which_they_came() -> None:
    event, record = Event(), []

    def wait(name: str) -> None:
        event.wait()
        record.append(name)

    def main() -> None:
        for name in "abc":
            Thread(target=wait, args=(name,)).start()
        yield_now()
        event.set()

    run_scheduler(main)
    assert record == ["a", "b", "c"]


def test_who_was_woken_goes_on_though_the_flag_is_false_again(kind: Kind, until: Any) -> None:
    """Set and cleared at once, an event is a pulse: none who waited misses it."""
    event, record = Event(), []

    def main() -> None:
        threads = [Thread(target=lambda: record.append(event.wait()), kind=kind) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(event._waiters) == 3)
        event.set()
        event.clear()
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert (record, event.is_set()) == ([True, True, True], False)


def test_a_timeout_is_as_long_as_was_asked_for() -> None:
    clock = VirtualClock()
    event = Event()

    def main() -> list[object]:
        answers = [event.wait(0), event.wait(-1), clock.now(), event.wait(7), clock.now()]
        event.set()
        return [*answers, event.wait(7), event.wait(0), clock.now()]

    assert Scheduler(clock=clock).run(main) == [False, False, 0.0, False, 7.0, True, True, 7.0]


def test_a_flag_set_between_the_look_and_the_wait_is_seen() -> None:
    """`wait` stands among the waiters first, and looks at the flag second."""

    class Late(Event):
        def __getattribute__(self, name: str) -> Any:
            waiters = object.__getattribute__(self, "_waiters")
            if name == "_flag" and waiters and not object.__getattribute__(self, "__dict__")["_flag"]:
                # Between the two, another thread sets it. It has not found anybody yet.
                object.__getattribute__(self, "__dict__")["_flag"] = True
            return object.__getattribute__(self, name)

    event = Late()
    assert run_scheduler(event.wait) is True
    assert len(event._waiters) == 0


def test_the_rest_is_threading_s(outcome: Any) -> None:
    for event in (Event(), threading.Event()):
        with pytest.warns(DeprecationWarning, match=r"^isSet\(\) is deprecated, use is_set\(\) instead$"):
            assert event.isSet() is False
        event.set()
        assert event.is_set() is True
        event.clear()
        assert event.is_set() is False


def test_repr() -> None:
    event = Event()
    first = repr(event)
    event.set()
    name = f"greenthreads.Event at {id(event):#x}"
    assert [first, repr(event)] == [f"<{name}: unset>", f"<{name}: set>"]


def test_after_a_fork_reinit_nobody_waits() -> None:
    event = Event()
    with event._cond:
        event._at_fork_reinit()
    assert (len(event._waiters), event.is_set(), event._cond._is_owned()) == (0, False, False)


def test_a_stack_that_ends_in_the_switch_of_a_wait_loses_nobody() -> None:
    """The switch is the deepest call, and how deep it is depends on who is next: the scheduler needs a frame more."""
    record: list[str] = []
    event = Event()
    over = False

    def descend(number: int) -> None:
        if number:
            descend(number - 1)
        event.wait()
        descend(0)

    def overflow(number: int) -> None:
        with pytest.raises(RecursionError):
            descend(number)
        record.append("overflow")

    def set_and_clear() -> None:
        while not over:
            event.set()
            event.clear()
            sleep(1e-9)
        record.append("end")

    def main() -> None:
        nonlocal over
        Thread(target=set_and_clear).start()
        for number in range(6):
            thread = Thread(target=overflow, args=(number,))
            thread.start()
            thread.join()
            assert not event._waiters
        over = True

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        run_scheduler(main)
    finally:
        sys.setrecursionlimit(limit)
    assert record == [*6 * ["overflow"], "end"]
