"""What is handed to a thread that waits is never lost, never given twice, and goes to who has waited longest.

For everything that threads wait for: a wakeup, a deadline and an interrupt come in every order, made by hand, while one
thread is parked. The first has its effect; what a later wakeup gives stays for the next.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import greenthreads
from greenthreads import (
    BoundedSemaphore,
    Condition,
    Empty,
    Event,
    Full,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
    Thread,
)
from scheduler import Scheduler, VirtualClock, WaitQueue, current_task, run_scheduler, yield_now


class Interrupted(Exception):
    """What the tests interrupt with."""


@dataclass
class Thing:
    """Something to wait for, which nobody can have yet."""

    # Waits; whether it came in time.
    wait: Callable[[float | None], object]
    # Gives it to who has waited longest.
    wake: Callable[[], object]
    # How many there are for those who come next.
    left: Callable[[], int]
    waiters: Any
    # What `left` is after a wakeup that found nobody, and after one that found somebody.
    unclaimed: int = 1
    claimed: int = 0
    # Whether a thread looks a last time when its deadline has passed, and may find what came since.
    looks_again: bool = False
    # Whether all who wait are woken together.
    together: bool = False


def a_lock() -> Thing:
    lock = Lock()
    lock.acquire()
    return Thing(
        lambda t: lock.acquire(timeout=-1 if t is None else t), lock.release, lambda: not lock.locked(), lock._waiters
    )


def an_rlock() -> Thing:
    lock = RLock()
    # Held by a thread that is none of the two.
    holder = threading.Thread(target=lock.acquire)
    holder.start()
    holder.join()
    return Thing(
        lambda t: lock.acquire(timeout=-1 if t is None else t), lock._open, lambda: not lock.locked(), lock._waiters
    )


def a_semaphore() -> Thing:
    semaphore = Semaphore(0)
    return Thing(
        lambda t: semaphore.acquire(timeout=t), semaphore.release, lambda: semaphore._value, semaphore._waiters
    )


def a_bounded_semaphore() -> Thing:
    semaphore = BoundedSemaphore()
    semaphore.acquire()
    return Thing(
        lambda t: semaphore.acquire(timeout=t), semaphore.release, lambda: semaphore._value, semaphore._waiters
    )


def a_condition(lock: Lock | None = None) -> Thing:
    condition = Condition(lock)

    def wait(timeout: float | None) -> object:
        with condition:
            return condition.wait(timeout)

    def wake() -> None:
        with condition:
            condition.notify()

    # A notification that finds nobody is gone, as with threading.
    return Thing(wait, wake, lambda: 0, condition._waiters, unclaimed=0)


def an_event() -> Thing:
    event = Event()
    return Thing(event.wait, event.set, event.is_set, event._waiters, claimed=1, together=True)


def an_item(queue: Any) -> Thing:
    def wait(timeout: float | None) -> object:
        try:
            return queue.get(timeout=timeout) == "item"
        except Empty:
            return False

    wake = lambda: queue.put("item")  # noqa: E731
    return Thing(wait, wake, queue.qsize, queue._getters, looks_again=isinstance(queue, SimpleQueue))


def room() -> Thing:
    queue: Queue[str] = Queue(1)
    queue.put("old")

    def wait(timeout: float | None) -> object:
        try:
            queue.put("new", timeout=timeout)
        except Full:
            return False
        return True

    return Thing(wait, queue.get, lambda: 1 - queue.qsize(), queue._putters)


def reading() -> Thing:
    lock = RWLock()
    lock.acquire_write()
    return Thing(
        lambda t: lock.acquire_read(timeout=-1 if t is None else t),
        lambda: lock._writer is not None and lock.release_write(),  # type: ignore[func-returns-value]
        lambda: not lock._readers and lock._writer is None,
        lock._waiters,
        together=True,
    )


def writing() -> Thing:
    lock = RWLock()
    lock.acquire_read()
    return Thing(
        lambda t: lock.acquire_write(timeout=-1 if t is None else t),
        lambda: lock.release_read() if lock._readers else lock.release_write(),
        lambda: not lock._readers and lock._writer is None,
        lock._waiters,
    )


def with_mutex() -> Queue[str]:
    queue: Queue[str] = Queue()
    assert queue.mutex.locked() is False  # Whoever has asked for it may hold it: another way through the code.
    return queue


THINGS: dict[str, Callable[[], Thing]] = {
    "Lock": a_lock,
    "RLock": an_rlock,
    "Semaphore": a_semaphore,
    "BoundedSemaphore": a_bounded_semaphore,
    "Condition": a_condition,
    "Condition over a Lock": lambda: a_condition(Lock()),
    "Event": an_event,
    "Queue": lambda: an_item(Queue()),
    "Queue with a mutex": lambda: an_item(with_mutex()),
    "Queue with a bound": lambda: an_item(Queue(1)),
    "LifoQueue": lambda: an_item(LifoQueue()),
    "PriorityQueue": lambda: an_item(PriorityQueue()),
    "SimpleQueue": lambda: an_item(SimpleQueue()),
    "room in a Queue": room,
    "RWLock to read": reading,
    "RWLock to write": writing,
}
ORDERS = [order for size in (1, 2, 3) for order in itertools.permutations(["wakeup", "timeout", "interrupt"], size)]


@pytest.fixture(params=THINGS.values(), ids=THINGS)
def thing(request: pytest.FixtureRequest) -> Thing:
    """Each thing to wait for, in turn."""
    return request.param()  # type: ignore[no-any-return]


def expected(thing: Thing, order: tuple[str, ...]) -> tuple[list[object], int]:
    """What the thread says, and what is left."""
    first = order[0]
    if first == "timeout" and thing.looks_again and "wakeup" in order:
        first = "wakeup"
    effect = {"wakeup": "woken", "timeout": "timed out", "interrupt": "interrupted"}[first]
    late = "interrupted after" if "interrupt" in order[1:] else False
    if "wakeup" not in order:
        return [effect, late], 0
    return [effect, late], thing.claimed if first == "wakeup" else thing.unclaimed


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_user_thread(thing: Thing, order: tuple[str, ...]) -> None:
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    record: list[object] = []

    def waiter() -> None:
        try:
            record.append("woken" if thing.wait(5) else "timed out")
        except Interrupted:
            record.append("interrupted")
        # An interrupt that lost is kept, and raised at the next opportunity.
        try:
            record.append(WaitQueue().park("a reason", timeout=5))
        except Interrupted:
            record.append("interrupted after")

    def main() -> None:
        task = scheduler.spawn(waiter)
        yield_now()
        assert len(thing.waiters) == 1
        for event in order:
            if event == "wakeup":
                thing.wake()
            elif event == "timeout":
                clock.advance(5)
                scheduler.timers.fire(clock.now())
            else:
                task.interrupt(Interrupted())
        assert list(scheduler.ready).count(task) == 1
        task.join()

    scheduler.run(main)
    assert (record, thing.left(), len(thing.waiters)) == (*expected(thing, order), 0)


class Bell:
    """Stands in for the lock that a kernel thread sleeps on: what happens while it sleeps is scripted."""

    def __init__(self, *script: Callable[[], object]) -> None:
        self.script = list(script)
        self.rung = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self.script:
            self.script.pop(0)()
        assert self.rung or timeout >= 0, "would wait for ever"
        return self.rung

    def release(self) -> None:
        self.rung = True


def interrupt_me() -> None:
    current_task().interrupt(Interrupted())


def press_ctrl_c() -> None:
    """What a signal handler does in a blocked kernel thread."""
    raise KeyboardInterrupt


def what_comes_of(wait: Callable[[], object], *script: Callable[[], object]) -> str:
    """Wait in this kernel thread; while it sleeps, `script` happens."""
    me: Any = current_task()
    me._bell = Bell(*script)
    try:
        return "woken" if wait() else "timed out"
    except (Interrupted, KeyboardInterrupt) as error:
        return type(error).__name__
    finally:
        assert (me.waiters, me.wait, me.pending, me.value) == (None, None, None, None)


def test_a_kernel_thread_is_woken(thing: Thing) -> None:
    assert what_comes_of(lambda: thing.wait(None), thing.wake) == "woken"
    assert (thing.left(), len(thing.waiters)) == (thing.claimed, 0)


def test_a_kernel_thread_is_woken_as_its_deadline_passes(thing: Thing) -> None:
    """The waker is first to take it out of the waiters, and rings when the system's wait has ended."""

    def wake_late() -> None:
        thing.wake()
        bell = me._bell
        bell.rung = False
        bell.script.append(bell.release)

    me: Any = current_task()
    assert what_comes_of(lambda: thing.wait(1e-9), wake_late) == "woken"
    assert (thing.left(), len(thing.waiters)) == (thing.claimed, 0)


def test_a_kernel_thread_s_deadline_passes(thing: Thing) -> None:
    assert what_comes_of(lambda: thing.wait(1e-9), lambda: None) == "timed out"
    assert (thing.left(), len(thing.waiters)) == (0, 0)
    thing.wake()
    assert thing.left() == thing.unclaimed


@pytest.mark.parametrize("timeout", [None, 1e-9])
def test_a_kernel_thread_is_interrupted(thing: Thing, timeout: float | None) -> None:
    assert what_comes_of(lambda: thing.wait(timeout), interrupt_me) == "Interrupted"
    assert (thing.left(), len(thing.waiters)) == (0, 0)
    thing.wake()
    assert thing.left() == thing.unclaimed


def test_a_kernel_thread_is_interrupted_and_then_somebody_wakes_it(thing: Thing) -> None:
    def both() -> None:
        interrupt_me()
        thing.wake()

    assert what_comes_of(lambda: thing.wait(None), both) == "Interrupted"
    assert (thing.left(), len(thing.waiters)) == (thing.unclaimed, 0)


def test_a_signal_handler_raises_in_a_kernel_thread_that_waits(thing: Thing) -> None:
    assert what_comes_of(lambda: thing.wait(None), press_ctrl_c) == "KeyboardInterrupt"
    assert (thing.left(), len(thing.waiters)) == (0, 0)
    thing.wake()
    assert thing.left() == thing.unclaimed


def test_a_signal_handler_raises_in_a_kernel_thread_that_was_woken(thing: Thing) -> None:
    """Then it gives back what it was handed. (Its own item cannot be taken back out of a queue: it was put.)"""

    def both() -> None:
        thing.wake()
        press_ctrl_c()

    assert what_comes_of(lambda: thing.wait(None), both) == "KeyboardInterrupt"
    assert (thing.left(), len(thing.waiters)) == (0 if "put" in thing.wait.__code__.co_names else thing.unclaimed, 0)


def test_what_a_kernel_thread_gives_back_goes_to_who_waits_next(thing: Thing, until: Any) -> None:
    record: list[object] = []
    second = Thread(target=lambda: record.append(bool(thing.wait(None))), kind="kernel")

    def both() -> None:
        second.start()
        until(lambda: len(thing.waiters) == 2)
        thing.wake()
        if "put" in thing.wait.__code__.co_names:
            thing.wake()  # There is nothing that it could give back.
        press_ctrl_c()

    assert what_comes_of(lambda: thing.wait(None), both) == "KeyboardInterrupt"
    second.join()
    assert (record, thing.left(), len(thing.waiters)) == ([True], thing.claimed, 0)


def test_first_come_first_served_across_kinds_and_schedulers(thing: Thing, until: Any) -> None:
    record: list[str] = []
    order = ["user 1", "kernel 1", "other 1", "user 2", "kernel 2", "other 2"]

    def waiter(name: str) -> None:
        assert thing.wait(None)
        record.append(name)

    def start(name: str) -> Thread:
        if name.startswith("other"):
            thread = Thread(target=run_scheduler, args=(waiter, name), kind="kernel")
        else:
            thread = Thread(target=waiter, args=(name,), kind=name[:-2])  # type: ignore[arg-type]
        thread.start()
        return thread

    def main() -> None:
        threads = []
        for number, name in enumerate(order, 1):
            threads.append(start(name))
            until(lambda: len(thing.waiters) == number)  # noqa: B023
        assert record == []
        for number in range(1, len(order) + 1):
            thing.wake()
            until(lambda: len(record) >= number)  # noqa: B023
        for thread in threads:
            thread.join()

    run_scheduler(main)
    if thing.together:
        # Kernel threads that were woken at once run when the system lets them.
        record.sort(key=order.index)
    assert record == order
    assert len(thing.waiters) == 0


def test_a_thread_given_nothing_waits_on(thing: Thing, pair: Any, until: Any, waits: Any) -> None:
    """The last of the promises, and the first: who waits goes on when it is woken, and not before."""
    record: list[str] = []

    def second() -> None:
        thing.wait(None)
        record.append("woken")

    def first() -> None:
        thread = pair.start(second)
        until(lambda: waits(thread))
        record.append("wakes it")
        thing.wake()
        thread.join()

    pair.run(first)
    assert (record, thing.left()) == (["wakes it", "woken"], thing.claimed)


def test_all_that_threads_wait_for_is_tested_here() -> None:
    """What has an `acquire`, a `wait` or a `get` among the public names; but for a barrier, where nothing is handed."""
    waited_for = {
        name
        for name in greenthreads.__all__
        if isinstance(getattr(greenthreads, name), type)
        and name != "local"
        and any(hasattr(getattr(greenthreads, name), method) for method in ("acquire", "acquire_read", "wait", "get"))
    }
    assert waited_for - {name.split()[0] for name in THINGS} == {"Barrier"}
