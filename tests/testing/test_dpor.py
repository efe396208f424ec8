"""DPOR: as many executions as there are classes of them, and every outcome that a full search finds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from executions import Box, announce, endings, lost_update, outcomes, together

from greenthreads.testing import explore
from scheduler.strategies import DPOR, BoundedDPOR, DepthFirst


def reads_only() -> Hashable:
    box = Box()
    together(box.read, box.read, box.read)
    return 0


def same_write() -> Hashable:
    box = Box()
    together(lambda: box.write(1), lambda: box.write(1))
    return box.read()


def lock_order() -> Hashable:
    lock = threading.Lock()
    order: list[int] = []

    def hold(number: int) -> None:
        with lock:
            order.append(number)

    together(*[lambda number=number: hold(number) for number in range(3)])
    return tuple(order)


def reentrant() -> Hashable:
    lock = threading.RLock()
    order: list[int] = []

    def hold(number: int) -> None:
        with lock, lock:
            order.append(number)

    together(lambda: hold(1), lambda: hold(2))
    return tuple(order)


def crossed_locks() -> Hashable:
    a, b = threading.Lock(), threading.Lock()

    def hold(one: Any, other: Any) -> None:
        with one, other:
            pass

    together(lambda: hold(a, b), lambda: hold(b, a))
    return "through"


def set_and_clear() -> Hashable:
    event = threading.Event()
    seen: list[bool] = []

    def flash() -> None:
        event.set()
        event.clear()

    together(lambda: seen.append(event.wait(1)), flash)
    return tuple(seen)


def timed_acquires() -> Hashable:
    lock = threading.Lock()
    got: dict[int, bool] = {}

    def take(number: int) -> None:
        got[number] = lock.acquire(timeout=number)
        if got[number]:
            lock.release()

    together(lambda: take(1), lambda: take(2))
    return got[1], got[2]


def try_locks() -> Hashable:
    lock = threading.Lock()
    got: dict[int, bool] = {}

    def attempt(number: int) -> None:
        got[number] = lock.acquire(blocking=False)
        if got[number]:
            lock.release()

    together(lambda: attempt(1), lambda: attempt(2))
    return got[1], got[2]


def a_permit_that_is_never_given_back() -> Hashable:
    semaphore = threading.Semaphore(1)
    together(semaphore.acquire, lambda: semaphore.acquire(timeout=1))
    return "through"


def several_at_once() -> Hashable:
    a, b, c = Box(), Box(), Box()
    seen: list[tuple[int, int]] = []
    together(
        lambda: (b.write(1), seen.append(a.both(b))),
        lambda: (b.write(11), a.copy_from(c)),
    )
    return *seen, b.read()


def handed_over() -> Hashable:
    """A lock that one thread takes, another one releases, and two more want."""
    lock = threading.Lock()
    order: list[int] = []
    lock.acquire()

    def hold(number: int) -> None:
        with lock:
            order.append(number)

    together(lock.release, lambda: hold(1), lambda: hold(2))
    return tuple(order)


def conditions() -> Hashable:
    items: list[int] = []
    condition = threading.Condition()
    eaten: list[tuple[int, int]] = []

    def consume(number: int) -> None:
        with condition:
            while not items:
                condition.wait()
            eaten.append((number, items.pop()))

    def produce() -> None:
        for item in range(2):
            with condition:
                items.append(item)
                condition.notify()

    together(lambda: consume(1), lambda: consume(2), produce)
    return tuple(eaten)


def joined_before_it_is_started() -> Hashable:
    late = threading.Thread(target=int)
    found: list[str] = []

    def join() -> None:
        try:
            late.join()
            found.append("joined")
        except RuntimeError as error:
            found.append(str(error))

    together(join, late.start)
    return tuple(found)


def joined_before_anything_is_put() -> Hashable:
    jobs: queue.Queue[int] = queue.Queue()
    order: list[str] = []

    def work() -> None:
        jobs.put(1)
        order.append("put")
        jobs.get()
        jobs.task_done()

    together(work, lambda: (jobs.join(), order.append("joined")))
    return tuple(order)


def without_the_lock(misuse: Callable[[Any], object]) -> Hashable:
    """What fails unless somebody holds the lock, and another thread that takes it."""
    condition = threading.Condition(threading.Lock())
    found: list[str] = []

    def attempt() -> None:
        try:
            misuse(condition)
            found.append("done")
        except RuntimeError as error:
            found.append(str(error))

    together(attempt, condition.acquire)
    return tuple(found)


@pytest.mark.parametrize(
    "misuse",
    [lambda c: c.release(), lambda c: c.notify(), lambda c: c.wait(0)],
    ids=["release", "notify", "wait"],
)
def test_what_fails_without_the_lock_may_come_when_it_is_held(misuse: Callable[[Any], object]) -> None:
    reduced, _few = outcomes(lambda: without_the_lock(misuse), DPOR())
    assert reduced == outcomes(lambda: without_the_lock(misuse), DepthFirst())[0]
    assert len(reduced) == 2


@pytest.mark.parametrize(
    ("program", "classes"),
    [
        # Who reads and writes first, at each of two steps.
        (lost_update, 4),
        (reads_only, 1),
        # Their order is one, even if it makes no difference.
        (same_write, 2),
        (lock_order, 6),
        (reentrant, 2),
        # One after the other, the other way round, and the deadlock.
        (crossed_locks, 3),
        # An acquire can't come before the release that lets it through.
        (handed_over, 2),
        # The join comes before the start, and fails, or after it: then it waits for the end, before which none is.
        (joined_before_it_is_started, 2),
    ],
)
def test_an_execution_for_each_class_and_no_more(program: Callable[[], Hashable], classes: int) -> None:
    strategy = DPOR()
    assert outcomes(program, strategy)[1] == classes
    assert strategy.redundant == 0


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize(
    "program",
    [
        lost_update, same_write, reentrant, crossed_locks, set_and_clear, timed_acquires, try_locks,
        a_permit_that_is_never_given_back, several_at_once, joined_before_it_is_started,
        joined_before_anything_is_put,
    ],
)  # fmt: skip
def test_no_outcome_is_missed(program: Callable[[], Hashable], early: bool) -> None:
    reduced, few = outcomes(program, DPOR(), early=early)
    full, many = outcomes(program, DepthFirst(), early=early)
    assert reduced == full
    assert few < many


def test_every_order_of_waiting_and_notifying() -> None:
    found, executions = outcomes(conditions, DPOR())
    # Either consumer may be first; the two items may lie there together, then the later one is taken first.
    assert found == {((1, 0), (2, 1)), ((2, 0), (1, 1)), ((1, 1), (2, 0)), ((2, 1), (1, 0))}
    assert executions == 24


def test_exploring_by_name() -> None:
    found = explore(lock_order, strategy="dpor", memory=False)
    assert found.exhausted
    assert found.executions == 6
    assert found.coverage == (
        "6 executions: every schedule, up to the order of independent steps, of the threads' operations on primitives; "
        "time passed only when nothing else could run"
    )


# ---- Daemons ---------------------------------------------------------------------------------------------------------


def a_daemon_that_fails(_left: dict[str, Hashable]) -> None:
    def fail() -> None:
        raise ValueError

    threading.Thread(target=fail, daemon=True).start()


def a_daemon_that_is_cut_off(left: dict[str, Hashable]) -> None:
    box = Box()

    def count() -> None:
        for number in range(3):
            left["count"] = number
            box.read()

    threading.Thread(target=count, daemon=True).start()


def a_daemon_and_others(left: dict[str, Hashable]) -> None:
    """The last to end is the main thread, or one that it does not wait for."""
    box = Box()

    def work() -> None:
        left["done"] = box.read()

    def serve() -> None:
        left["begun"] = True
        box.write(1)
        left["served"] = True

    threading.Thread(target=serve, daemon=True).start()
    threading.Thread(target=work).start()


def a_daemon_that_starts_another(left: dict[str, Hashable]) -> None:
    def work() -> None:
        left["done"] = True

    def start() -> None:
        threading.Thread(target=work, daemon=False).start()

    threading.Thread(target=start, daemon=True).start()


def a_daemon_that_waits(left: dict[str, Hashable]) -> None:
    event = threading.Event()

    def wait() -> None:
        left["set"] = event.wait(1)

    threading.Thread(target=wait, daemon=True).start()
    event.set()


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize(
    "program",
    [
        a_daemon_that_fails, a_daemon_that_is_cut_off, a_daemon_and_others, a_daemon_that_starts_another,
        a_daemon_that_waits,
    ],
)  # fmt: skip
def test_a_daemon_may_be_cut_off_anywhere(program: Callable[[dict[str, Hashable]], object], early: bool) -> None:
    full = endings(program, DepthFirst(), early=early)
    assert len(full) > 1
    assert endings(program, DPOR(), early=early) == full
    for bound in (0, 1):
        assert endings(program, BoundedDPOR(bound), early=early) == endings(program, DepthFirst(bound), early=early)


def who_sleeps_while_two_others_race() -> Hashable:
    """One looks at what another does in the middle of something, of which a third one notices how far it is.

    That the first sleeps in a race of the other two does not say that this has been seen: it sleeps, since it was tried
    first there, but one step later it wakes.
    """
    middle, done = Box(), Box()
    progress = 0
    found: dict[str, int] = {}

    def work() -> None:
        nonlocal progress
        middle.write(1)
        progress = 1
        announce((middle, True), (done, False))
        progress = 2
        announce((middle, True), (done, True))
        done._value = 1
        progress = 3

    def interfere() -> None:
        middle.write(2)
        found["progress"] = progress

    def look() -> None:
        found["done"] = done.read()

    together(interfere, look, work)
    return tuple(sorted(found.items()))


def test_who_sleeps_while_two_others_race_hides_nothing() -> None:
    seen, _ = outcomes(who_sleeps_while_two_others_race, DPOR())
    assert seen == {(("done", done), ("progress", progress)) for done in (0, 1) for progress in range(4)}
