"""Conditions: wakeups that are lost, go to the wrong thread, or mean less than was thought."""

from __future__ import annotations

import threading

from bugs import pair, together


@pair("deadlock", small=True)
def lost_wakeup(repaired: bool) -> None:
    """Waits without looking whether what it waits for has happened already."""
    condition = threading.Condition()
    ready = False

    def wait() -> None:
        with condition:
            if not (repaired and ready):
                condition.wait()

    def notify() -> None:
        nonlocal ready
        with condition:
            ready = True
            condition.notify()

    together(wait, notify)


@pair("exception")
def if_for_while(repaired: bool) -> None:
    """Two are woken for one item, and the second does not look again."""
    condition = threading.Condition()
    items: list[int] = []

    def consume() -> None:
        with condition:
            if repaired:
                while not items:
                    condition.wait()
            elif not items:
                condition.wait()
            items.pop()

    def produce() -> None:
        for item in range(2):
            with condition:
                items.append(item)
                condition.notify_all()

    together(consume, consume, produce)


@pair("deadlock")
def notify_for_notify_all(repaired: bool) -> None:
    """Both sides of a buffer wait on one condition; a single notification may go to the wrong side."""
    condition = threading.Condition()
    items: list[int] = []

    def wake() -> None:
        if repaired:
            condition.notify_all()
        else:
            condition.notify()

    def produce() -> None:
        with condition:
            while items:
                condition.wait()
            items.append(1)
            wake()

    def consume() -> None:
        with condition:
            while not items:
                condition.wait()
            items.pop()
            wake()

    together(consume, consume, produce, produce)


@pair("deadlock", small=True)
def state_changed_without_the_lock(repaired: bool) -> None:
    """Notifies only if somebody waits, and looks for that without the lock."""
    condition = threading.Condition()
    ready, waiting = threading.Event(), threading.Event()

    def wait() -> None:
        with condition:
            if not ready.is_set():
                waiting.set()
                condition.wait()

    def notify() -> None:
        if repaired:
            with condition:
                ready.set()
                condition.notify()
            return
        ready.set()
        if waiting.is_set():
            with condition:
                condition.notify()

    together(wait, notify)


@pair("exception", small=True, timeouts="early")
def result_of_a_timed_wait_ignored(repaired: bool) -> None:
    """Takes the end of a timed wait for the news it waited for."""
    condition = threading.Condition()
    items: list[int] = []

    def consume() -> None:
        with condition:
            if not items and not condition.wait(5) and repaired:
                return
            items.pop()

    def produce() -> None:
        with condition:
            items.append(1)
            condition.notify()

    together(consume, produce)


@pair("deadlock", small=True)
def barrier_reused(repaired: bool) -> None:
    """A barrier made by hand: a fast thread is back before a slow one has seen that the first round is over."""
    condition = threading.Condition()
    come, rounds = 0, 0

    def meet() -> None:
        nonlocal come, rounds
        with condition:
            mine = rounds
            come += 1
            if come == 2:
                come, rounds = 0, rounds + 1
                condition.notify_all()
            elif repaired:
                while rounds == mine:
                    condition.wait()
            else:
                while come != 0:
                    condition.wait()

    def twice() -> None:
        meet()
        meet()

    together(twice, twice)


@pair("deadlock")
def notification_eaten(repaired: bool) -> None:
    """A worker that was woken to stop passes nothing on, and its fellow sleeps for ever."""
    condition = threading.Condition()
    stopped = False

    def work() -> None:
        with condition:
            while not stopped:
                condition.wait()
            if repaired:
                condition.notify()

    def stop() -> None:
        nonlocal stopped
        with condition:
            stopped = True
            condition.notify()

    together(work, work, stop)


@pair("assertion", small=True)
def wait_for_the_wrong_thing(repaired: bool) -> None:
    """Waits for a count to be reached that has been passed by the time it looks."""
    condition = threading.Condition()
    count = 0
    seen = []

    def wait() -> None:
        with condition:
            if repaired:
                condition.wait_for(lambda: count >= 1, timeout=1)
                seen.append(count >= 1)
            else:
                seen.append(condition.wait_for(lambda: count == 1, timeout=1))

    def advance() -> None:
        nonlocal count
        for _ in range(2):
            with condition:
                count += 1
                condition.notify_all()

    together(wait, advance)
    assert seen == [True]
