"""`Thread.interrupt`: an exception raised in another thread, of either kind, from either kind."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Lock, Queue, SimpleQueue, Thread, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler.kernel import KernelTask

KINDS: list[Kind] = ["user", "kernel"]


@pytest.mark.parametrize("interrupter", KINDS)
def test_one_that_waits_is_interrupted_at_once(kind: Kind, interrupter: Kind, until: Any, waits: Any) -> None:
    record: list[object] = []
    event = Event()

    def worker() -> None:
        try:
            event.wait()
        except ThreadInterrupted as error:
            record.append(repr(error))
        record.append("goes on")

    def main() -> None:
        thread = Thread(target=worker, kind=kind)
        thread.start()
        until(lambda: waits(thread))
        other = Thread(target=thread.interrupt, kind=interrupter)
        other.start()
        thread.join()
        other.join()

    run_scheduler(main)
    assert record == ["ThreadInterrupted()", "goes on"]
    assert len(event._waiters) == 0


taken = Lock()
taken.acquire()
empty: Queue[int] = Queue()
full: Queue[int] = Queue(1)
full.put(1)
unfinished = full
simple: SimpleQueue[int] = SimpleQueue()
never = Event()
WAITS = {
    "Lock": taken.acquire,
    "Lock with a timeout": lambda: taken.acquire(timeout=1000),
    "with Lock": taken.__enter__,
    "Event": never.wait,
    "Event with a timeout": lambda: never.wait(1000),
    "get": empty.get,
    "get with a timeout": lambda: empty.get(timeout=1000),
    "put": lambda: full.put(2),
    "put with a timeout": lambda: full.put(2, timeout=1000),
    "join of a queue": unfinished.join,
    "SimpleQueue": simple.get,
    "join": lambda: greenthreads.main_thread().join(),
    "join with a timeout": lambda: greenthreads.main_thread().join(1000),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_every_wait_can_be_interrupted_and_leaves_nothing_behind(wait: Any, kind: Kind, until: Any, waits: Any) -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            wait()
        except ValueError as error:
            record.append(str(error))

    def main() -> None:
        thread = Thread(target=worker, kind=kind)
        thread.start()
        until(lambda: waits(thread))
        thread.interrupt(ValueError("enough"))
        thread.join()

    run_scheduler(main)
    assert record == ["enough"]
    waiting = [taken._waiters, never._waiters, empty._getters, full._putters, full._joiners, simple._getters]
    assert [len(waiters) for waiters in waiting] == 6 * [0]
    assert (list(full.queue), full.mutex.locked(), empty.mutex.locked(), taken.locked()) == ([1], False, False, True)


def test_a_user_thread_that_sleeps() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            sleep(1000)
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        thread = Thread(target=worker)
        thread.start()
        yield_now()
        thread.interrupt()

    run_scheduler(main)
    assert record == ["interrupted"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [(ValueError, "ValueError()"), (KeyError("why"), "KeyError('why')"), (SystemExit, "SystemExit()")],
)
def test_with_what(kind: Kind, given: Any, shown: str, until: Any, waits: Any) -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            Event().wait()
        except BaseException as error:
            record.append(repr(error))

    def main() -> None:
        thread = Thread(target=worker, kind=kind)
        thread.start()
        until(lambda: waits(thread))
        thread.interrupt(given)
        thread.join()

    run_scheduler(main)
    assert record == [shown]


def test_with_something_else_or_too_early_or_too_late(kind: Kind, outcome: Any) -> None:
    def main() -> None:
        thread = Thread(target=lambda: None, kind=kind)
        assert outcome(thread.interrupt, "x") == (TypeError, "exceptions must derive from BaseException, not str")
        assert outcome(thread.interrupt, int) == (TypeError, "exceptions must derive from BaseException, not type")
        assert outcome(thread.interrupt) == (RuntimeError, "cannot interrupt thread before it is started")
        thread.start()
        thread.join()
        assert outcome(thread.interrupt) == ("returned", None)
        yield_now()

    run_scheduler(main)


def test_the_main_user_thread_from_either_kind(kind: Kind, outcome: Any) -> None:
    def main() -> object:
        thread = Thread(target=lambda: greenthreads.main_thread().interrupt(ValueError("you")), kind=kind)
        thread.start()
        result = outcome(Event().wait)
        thread.join()
        return result

    assert run_scheduler(main) == (ValueError, "you")


def test_a_kernel_thread_that_runs_a_scheduler_is_interrupted_as_its_main_user_thread(until: Any, waits: Any) -> None:
    record: list[str] = []

    def inner() -> None:
        try:
            sleep(1000)
        except ThreadInterrupted:
            record.append("interrupted")

    thread = Thread(target=run_scheduler, args=(inner,), kind="kernel")
    thread.start()
    from scheduler import fork

    until(lambda: thread.ident in fork.running and fork.running[thread.ident].asleep)
    thread.interrupt()
    thread.join()
    assert record == ["interrupted"]


def test_a_kernel_thread_that_computes_is_interrupted_at_some_bytecode(until: Any) -> None:
    record: list[str] = []
    running = threading.Event()

    def worker() -> None:
        try:
            while True:
                running.set()
        except ThreadInterrupted:
            record.append("interrupted")

    thread = Thread(target=worker, kind="kernel")
    thread.start()
    running.wait()
    thread.interrupt()
    thread.join()
    assert record == ["interrupted"]


def test_whoever_was_handed_the_lock_first_keeps_it(until: Any, waits: Any) -> None:
    lock = Lock()
    record: list[str] = []

    def worker() -> None:
        try:
            with lock:
                record.append("has the lock")
                yield_now()
                record.append("never")
        except ThreadInterrupted:
            record.append(f"interrupted, locked {lock.locked()}")

    def main() -> None:
        lock.acquire()
        thread = Thread(target=worker)
        thread.start()
        yield_now()
        lock.release()
        thread.interrupt()
        thread.join()

    run_scheduler(main)
    assert record == ["has the lock", "interrupted, locked False"]


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Kernel threads take turns after each few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_frequent_switches")
def test_a_kernel_thread_interrupted_at_any_moment_of_its_life_can_be_joined(monkeypatch: Any) -> None:
    """Its first and last lines are the library's own, and not to be interrupted."""
    seen: list[object] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(args.exc_type))
    monkeypatch.setattr("sys.unraisablehook", lambda args: seen.append(("unraisable", args.exc_value)))
    for _ in range(300):
        thread = Thread(target=lambda: None, kind="kernel")
        thread.start()
        while thread.is_alive():
            thread.interrupt()
        thread.join(20)
        assert not [mine for mine in greenthreads.enumerate() if mine is thread]
    # At most one for each thread: in place of its first line, or in its own code.
    assert set(seen) <= {ThreadInterrupted}
    assert len(seen) <= 300


def test_a_kernel_thread_interrupted_before_its_first_line_does_not_run_it(monkeypatch: Any) -> None:
    """The thread is held where it is about to begin."""
    seen: list[object] = []
    record: list[str] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(args.exc_value))
    held, go = threading.Event(), threading.Event()
    admit = KernelTask.admit_interrupts

    def held_back(task: KernelTask) -> BaseException | None:
        held.set()
        go.wait()
        return admit(task)

    monkeypatch.setattr(KernelTask, "admit_interrupts", held_back)
    thread = Thread(target=lambda: record.append("never"), kind="kernel")
    thread.start()
    held.wait()
    error = ValueError("early")
    thread.interrupt(error)
    go.set()
    thread.join()
    assert (record, seen) == ([], [error])


def test_a_kernel_thread_interrupted_after_its_last_line_ends_in_peace(monkeypatch: Any) -> None:
    """The interrupt comes while the thread is refusing them already."""
    seen: list[object] = []
    record: list[str] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(args.exc_value))
    monkeypatch.setattr("sys.unraisablehook", lambda args: seen.append(args.exc_value))
    refuse = KernelTask.refuse_interrupts

    def late(task: KernelTask) -> None:
        if task.ident == threading.get_ident() and not record:
            record.append("interrupted")
            task.interruptible = True
            task.interrupt(ValueError("late"))
        refuse(task)

    monkeypatch.setattr(KernelTask, "refuse_interrupts", late)
    thread = Thread(target=lambda: None, kind="kernel")
    thread.start()
    thread.join(20)
    assert (thread.is_alive(), seen, record) == (False, [], ["interrupted"])


def test_two_kernel_threads_that_interrupt_each_other_s_waits_again_and_again(until: Any) -> None:
    """Each wait ends by exactly one of its wakeup and the interrupt, and both are accounted for."""
    rounds = 300
    queue: Queue[int] = Queue()
    record: list[int] = []
    interrupts: list[int] = []
    done = threading.Event()

    def worker() -> None:
        while len(record) < rounds:
            try:
                record.append(queue.get())
            except ThreadInterrupted:
                interrupts.append(1)
        done.set()

    def main() -> None:
        thread = Thread(target=worker)
        thread.start()

        def bother() -> None:
            while not done.is_set():
                thread.interrupt()
                time.sleep(0)

        kernel = Thread(target=bother, kind="kernel")
        kernel.start()
        for number in range(rounds):
            queue.put(number)
            sleep(0)
        try:
            thread.join()
        finally:
            done.set()
            kernel.join()

    run_scheduler(main)
    assert record == list(range(rounds))
