"""Blocking where nobody can wait: a clear error, and nothing broken by it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from greenlet import greenlet

from greenthreads import Event, Lock, Queue, SimpleQueue, Thread
from scheduler import Observer, SchedulerError, WaitQueue, current_task, observers, run_scheduler, sleep, yield_now

FROM_THE_SCHEDULER = (
    "the scheduler itself can't wait: signal handlers, observers and posted calls that run between two threads must "
    "not block; start a thread for that"
)
FROM_A_GREENLET = "this greenlet is not a user thread: inside run_scheduler, only threads may use threading operations"

taken = Lock()
taken.acquire()
full: Queue[int] = Queue(1)
full.put(1)
event = Event()
empty: Queue[int] = Queue()
simple: SimpleQueue[int] = SimpleQueue()
queue = WaitQueue()

BLOCKING: dict[str, Callable[[], object]] = {
    "yield_now": yield_now,
    "sleep": lambda: sleep(1),
    "sleep 0": lambda: sleep(0),
    "park": lambda: queue.park("a reason"),
    "park with a deadline": lambda: queue.park("a reason", 1),
    "Lock": taken.acquire,
    "with Lock": taken.__enter__,
    "Lock with a timeout": lambda: taken.acquire(timeout=1),
    "Event": event.wait,
    "Event with a timeout": lambda: event.wait(1),
    "get": empty.get,
    "put": lambda: full.put(2),
    "SimpleQueue": simple.get,
}


def nothing_is_left() -> None:
    """No refused caller stands in a queue, or holds what it was refused."""
    assert [len(waiters) for waiters in (queue.waiters, taken._waiters, event._waiters)] == [0, 0, 0]
    assert [len(waiters) for waiters in (empty._getters, full._putters, simple._getters)] == [0, 0, 0]
    assert (empty.mutex.locked(), full.mutex.locked(), full.qsize()) == (False, False, 1)


@pytest.mark.parametrize("block", BLOCKING.values(), ids=BLOCKING)
def test_from_a_posted_call(block: Callable[[], object], outcome: Any) -> None:
    record: list[object] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.post(lambda: record.append(outcome(block)))
        while not record:
            yield_now()

    run_scheduler(main)
    assert record == [(SchedulerError, FROM_THE_SCHEDULER)]
    nothing_is_left()


@pytest.mark.parametrize("block", BLOCKING.values(), ids=BLOCKING)
def test_from_a_greenlet_that_the_program_made(block: Callable[[], object], outcome: Any) -> None:
    record: list[object] = []

    def main() -> None:
        record.append(greenlet(lambda: outcome(block)).switch())
        yield_now()

    run_scheduler(main)
    assert record == [(SchedulerError, FROM_A_GREENLET)]
    nothing_is_left()


def test_a_greenlet_that_the_program_made_may_not_take_a_free_lock_and_does_not_keep_it(outcome: Any) -> None:
    lock = Lock()

    def main() -> object:
        return greenlet(lambda: (outcome(lock.acquire), outcome(lock.__enter__))).switch()

    assert run_scheduler(main) == 2 * ((SchedulerError, FROM_A_GREENLET),)
    assert lock.locked() is False


def test_a_greenlet_that_the_program_made_may_wake_others_and_start_a_thread_may_not(outcome: Any) -> None:
    done = Event()
    record: list[object] = []

    def main() -> None:
        waiter = Thread(target=lambda: record.append(done.wait()))
        waiter.start()
        yield_now()
        greenlet(done.set).switch()
        waiter.join()
        record.append(greenlet(lambda: outcome(Thread)).switch())

    run_scheduler(main)
    assert record == [True, (SchedulerError, FROM_A_GREENLET)]


def test_a_greenlet_outside_of_any_scheduler_is_the_kernel_thread() -> None:
    lock = Lock()
    assert greenlet(lambda: (lock.acquire(), lock.release(), current_task())).switch()[2] is current_task()


def test_from_an_observer_on_the_scheduler_s_own_stack(outcome: Any) -> None:
    record: list[object] = []

    class Blocking(Observer):
        def spawned(self, task: Any) -> None:
            if task.name == "posted":
                record.append(outcome(event.wait))

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.post(lambda: scheduler.spawn(lambda: None, name="posted"))
        while not record:
            yield_now()

    observer = Blocking()
    observers.subscribe(observer)
    try:
        run_scheduler(main)
    finally:
        observers.unsubscribe(observer)
    assert record == [(SchedulerError, FROM_THE_SCHEDULER)]
    nothing_is_left()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers on Windows")
def test_from_a_signal_handler_while_all_sleep() -> None:
    record: list[object] = []

    def handler(number: int, frame: object) -> None:
        try:
            event.wait()
        except SchedulerError as error:
            record.append(str(error))
            woken.set()

    woken = Event()
    before = signal.signal(signal.SIGALRM, handler)
    try:

        def main() -> bool:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return woken.wait()

        assert run_scheduler(main) is True
    finally:
        signal.signal(signal.SIGALRM, before)
    assert record == [FROM_THE_SCHEDULER]
    nothing_is_left()


def test_what_a_posted_call_raises_comes_out_of_run_scheduler_and_threads_are_unwound() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            sleep(1000)
        finally:
            record.append("unwound")

    def fail() -> None:
        raise ValueError("posted")

    def main() -> None:
        Thread(target=worker).start()
        yield_now()
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.post(fail)
        sleep(1000)

    with pytest.raises(ValueError, match=r"^posted$"):
        run_scheduler(main)
    assert record == ["unwound"]
    assert run_scheduler(lambda: "next") == "next"


def test_a_lock_released_to_the_scheduler_itself_is_given_back() -> None:
    """A posted call that must not wait stands among the waiters for a moment: a kernel thread may hand over then."""
    lock = Lock()
    lock.acquire()
    record: list[object] = []

    class Waiters(type(lock._waiters)):  # type: ignore[misc]
        """Hands over between the moment when somebody stands in line and the moment when it parks."""

        def __setitem__(self, task: Any, value: None) -> None:
            super().__setitem__(task, value)
            kernel = threading.Thread(target=lock.release)
            kernel.start()
            kernel.join()

    lock._waiters = Waiters()

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None

        def call() -> None:
            try:
                lock.acquire()
            except SchedulerError as error:
                record.append(str(error))

        scheduler.post(call)
        while not record:
            yield_now()

    run_scheduler(main)
    assert record == [FROM_THE_SCHEDULER]
    assert lock.locked() is False


def test_starting_a_user_thread_where_no_scheduler_runs(outcome: Any) -> None:
    thread = Thread(target=lambda: None, name="homeless")
    text = (
        "can't start user thread 'homeless': no scheduler runs here. Start user threads inside run_scheduler(main), or "
        "make it a kernel thread with kind='kernel'"
    )
    assert outcome(thread.start) == (RuntimeError, text)
    # It was not started, and may be yet.
    assert (thread.ident, thread.is_alive()) == (None, False)
    run_scheduler(lambda: (thread.start(), thread.join()))
    assert thread.is_alive() is False


def test_a_blocking_call_of_the_system_s_blocks_all_and_breaks_nothing() -> None:
    record: list[str] = []

    def main() -> None:
        thread = Thread(target=lambda: record.append("other"))
        thread.start()
        kernel = threading.Thread(target=lambda: record.append("kernel thread"))
        kernel.start()
        kernel.join()
        record.append("main")

    run_scheduler(main)
    assert record == ["kernel thread", "main", "other"]


def test_an_observer_hears_of_each_thread_and_is_told_of_no_other() -> None:
    record: list[tuple[str, str]] = []

    class Listener(Observer):
        def spawned(self, task: Any) -> None:
            record.append(("spawned", task.name))

        def parked(self, task: Any) -> None:
            record.append(("parked", f"{task.name} on {task.wait}"))

        def ended(self, task: Any) -> None:
            record.append(("ended", task.name))

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        a = scheduler.spawn(lambda: queue.park("main"), name="a")
        yield_now()
        queue.unpark()
        a.join()

    listener = Listener()
    observers.subscribe(listener)
    try:
        run_scheduler(main)
    finally:
        observers.unsubscribe(listener)
    run_scheduler(lambda: None)
    a = [entry for entry in record if "'" not in entry[1]]
    assert a[:3] == [("spawned", "MainThread"), ("spawned", "a"), ("parked", "a on main")]
    assert a[-2:] == [("ended", "a"), ("ended", "MainThread")]
    assert len(record) == 6


def test_switches_are_heard_only_while_somebody_listens() -> None:
    from scheduler.continuation import has_switch_hook

    record: list[str] = []

    class Listener(Observer):
        def switched(self, origin: Any, target: Any) -> None:
            record.append(str(getattr(getattr(target, "task", None), "name", None)))

    def main() -> None:
        assert has_switch_hook()
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.spawn(yield_now, name="a")
        yield_now()
        yield_now()

    listeners = Listener(), Listener()
    for listener in listeners:
        observers.subscribe(listener)
    try:
        run_scheduler(main)
    finally:
        for listener in listeners:
            observers.unsubscribe(listener)
    assert has_switch_hook() is False
    assert record[::2] == record[1::2]
    assert [name for name in record[::2] if name != "the scheduler"][:2] == ["MainThread", "a"]
