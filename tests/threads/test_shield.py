"""An interrupt never lands inside the library in a kernel thread: what is begun there is ended."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

import greenthreads
import scheduler.kernel
from greenthreads import (
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    Once,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
    Thread,
    ThreadInterrupted,
    main_thread,
    run_scheduler,
    sleep,
    socket,
    timeout,
)
from greenthreads.carriers import Kind
from scheduler import current_task, kernel, poller, shield
from scheduler.kernel import KernelTask


@pytest.fixture
def blocked_inside(until: Any) -> Callable[[list[str]], tuple[Thread, Any]]:
    """Start a kernel thread that blocks in the library's own code; that, and the lock to open for it to come out."""

    def start(record: list[str]) -> tuple[Thread, Any]:
        go_on = threading.Lock()
        go_on.acquire()

        class Bell:
            """Blocks as a wait does that nobody can end."""

            release = staticmethod(go_on.release)
            acquire = staticmethod(go_on.acquire)

        def work() -> None:
            me: Any = current_task()
            me._bell = Bell()
            try:
                me.park(None, "nothing that could be interrupted")
                record.append("has come out")
                while True:
                    time.sleep(0)
            except ThreadInterrupted:
                record.append("interrupted")

        thread = Thread(target=work, kind="kernel")
        thread.start()
        task: Any = thread._task
        until(lambda: task.wait is not None)
        return thread, go_on

    return start


def test_it_waits_until_the_thread_has_come_out_of_the_library(blocked_inside: Any) -> None:
    record: list[str] = []
    thread, go_on = blocked_inside(record)
    task = thread._task
    # Tried while the thread is inside: nothing comes of it.
    assert [task.try_interrupt(ThreadInterrupted()) for _ in range(3)] == [False, False, False]
    interrupter = threading.Thread(target=thread.interrupt)
    interrupter.start()
    go_on.release()
    interrupter.join()
    thread.join()
    assert record == ["has come out", "interrupted"]


def test_in_the_program_s_own_code_it_comes_at_once() -> None:
    record: list[str] = []
    begun = threading.Event()

    def work() -> None:
        try:
            begun.set()
            while True:
                pass
        except ThreadInterrupted:
            record.append("interrupted")

    thread = Thread(target=work, kind="kernel")
    thread.start()
    begun.wait()
    assert thread._task.try_interrupt(ThreadInterrupted()) is True  # type: ignore[union-attr]
    thread.join()
    assert record == ["interrupted"]


def test_a_call_in_c_is_the_program_s_own(monkeypatch: Any) -> None:
    """The innermost frame is then ours, the one that called it."""
    read, write = os.pipe()
    record: list[object] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: record.append(args.exc_type))
    thread = Thread(target=os.read, args=(read, 1), kind="kernel")
    try:
        thread.start()
        task: Any = thread._task
        assert task.try_interrupt(ThreadInterrupted()) is True
        os.write(write, b"x")
        thread.join()
    finally:
        os.close(read)
        os.close(write)
    assert record == [ThreadInterrupted]


@pytest.mark.parametrize("limited", [False, True], ids=["interrupt", "timeout"])
def test_nor_is_the_wait_for_a_descriptor(limited: bool, monkeypatch: Any, until: Any) -> None:
    """Else who interrupts would have to stay, and all of its scheduler, until the wait is over."""
    monkeypatch.setattr(kernel, "_LONG_INSIDE", 1e9)
    monkeypatch.setattr(poller, "_SLICE", 0.01)
    record: list[object] = []
    near, far = socket.socketpair()

    def receive() -> None:
        try:
            with timeout(0.01 if limited else None):
                near.recv(1)
        except (ThreadInterrupted, TimeoutError) as error:
            record.append(type(error))

    thread = Thread(target=receive, kind="kernel")
    thread.start()
    if not limited:
        ident: Any = thread.ident
        until(lambda: sys._current_frames()[ident].f_code is poller.any_ready.__code__)
        assert thread._task.try_interrupt(ThreadInterrupted()) is True  # type: ignore[union-attr]
    thread.join()
    far.send(b"x")
    assert near.recv(1) == b"x"
    near.close()
    far.close()
    assert record == [TimeoutError if limited else ThreadInterrupted]


def test_a_sleep_is_interrupted_at_once(kind: Kind, until: Any) -> None:
    record: list[str] = []

    def work() -> None:
        try:
            sleep(1000)
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        until(lambda: thread._task.wait is not None)  # type: ignore[union-attr]
        thread.interrupt()
        thread.join()

    run_scheduler(main)
    assert record == ["interrupted"]


def test_a_sleep_in_a_signal_handler_does_not_disturb_the_wait_that_it_interrupts() -> None:
    event = Event()
    me: Any = current_task()

    class Bell:
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            sleep(0.001)
            event.set()
            return True

        def release(self) -> None:
            pass

    me._bell = Bell()
    assert event.wait() is True
    assert (me.wait, me.waiters) == (None, None)


def test_an_exception_that_is_taken_back_leaves_nothing_for_the_interpreter_to_look_for(script: Any) -> None:
    """On Python 3.11 it would look for ever, at the start of a function that is traced."""
    assert (
        script("""
        import sys
        from scheduler import shield

        shield.take_back()
        sys.settrace(lambda *_args: None)
        (lambda: print("runs"))()
        sys.settrace(None)
    """).stdout
        == "runs\n"
    )


def test_a_thread_may_interrupt_itself() -> None:
    record: list[str] = []

    def work() -> None:
        try:
            current_task().interrupt(ThreadInterrupted())
            while True:
                pass
        except ThreadInterrupted:
            record.append("interrupted")

    thread = Thread(target=work, kind="kernel")
    thread.start()
    thread.join()
    assert record == ["interrupted"]


def test_should_some_code_of_ours_block_it_is_interrupted_there(blocked_inside: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(scheduler.kernel, "_LONG_INSIDE", 0.01)
    record: list[str] = []
    thread, go_on = blocked_inside(record)
    thread.interrupt()
    go_on.release()
    thread.join()
    # It never came out.
    assert record == ["interrupted"]


def test_one_that_moves_is_not_blocked_however_often_it_is_met_inside(monkeypatch: Any) -> None:
    looks: list[bool] = []
    time = [0.0]

    def met_inside(_ident: int, _kind: object, *, anywhere: bool, at_end: bool) -> bool:
        looks.append(anywhere)
        time[0] += 0.4
        return anywhere

    places = iter([*range(10), *[9] * 3])
    go_on = threading.Event()
    thread = Thread(target=go_on.wait, kind="kernel")
    thread.start()
    monkeypatch.setattr(scheduler.kernel, "monotonic", lambda: time[0])
    monkeypatch.setattr(shield, "raise_outside", met_inside)
    monkeypatch.setattr(shield, "place_of", lambda _ident: next(places))
    try:
        thread._task.interrupt(ThreadInterrupted())  # type: ignore[union-attr]
    finally:
        monkeypatch.undo()
        go_on.set()
        thread.join()
    # At each of ten looks it is somewhere else. Then it stays there for more than a second.
    assert looks == [False] * 13 + [True]


def test_one_that_comes_as_a_scheduler_starts_finds_its_main_thread() -> None:
    """Who asks for the scheduler of a kernel thread is given one with a main thread, or none."""
    from scheduler import Observer, observers

    record: list[object] = []

    class Early(Observer):
        def spawned(self, task: object) -> None:
            record.append(main_thread().is_alive())

    early = Early()
    observers.subscribe(early)
    try:
        run_scheduler(lambda: None)
    finally:
        observers.unsubscribe(early)
    assert record == [True]


def interrupt_in_the_middle_of(work: Callable[[], object], rounds: int) -> None:
    """Do `work` again and again in a kernel thread that is interrupted at any moment, and meanwhile in this one."""
    left = [rounds]
    stop = threading.Event()

    def body() -> None:
        while left[0]:
            try:
                left[0] -= 1
                work()
            except ThreadInterrupted:
                pass

    def guarded() -> None:
        while left[0]:
            try:
                body()
            except ThreadInterrupted:
                pass  # It came in the handler.

    def interrupt() -> None:
        chance = random.Random(1)
        while not stop.is_set():
            thread.interrupt()
            for _ in range(chance.randrange(200)):
                pass

    thread = Thread(target=guarded, kind="kernel")
    thread.start()
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    while left[0]:
        work()
    stop.set()
    interrupter.join()
    thread.join()


def using(manager: AbstractContextManager[object]) -> Callable[[], None]:
    def work() -> None:
        with manager:
            pass

    return work


def with_a_loop_at_its_end(manager: AbstractContextManager[object]) -> Callable[[], None]:
    """From Python 3.13 an interrupt at the last jump is raised in the next function that is called: `__exit__`."""

    def work() -> None:
        with manager:
            for _ in range(3):
                pass

    return work


def a_condition() -> tuple[Callable[[], None], Callable[[], bool]]:
    condition = Condition()

    def work() -> None:
        with condition:
            condition.wait(0.0001)
            condition.notify()

    return work, lambda: not condition._lock.locked() and not condition._waiters


def an_rwlock() -> tuple[Callable[[], None], Callable[[], bool]]:
    lock = RWLock()

    def work() -> None:
        with lock.read():
            pass
        with lock.write():
            pass

    return work, lambda: (lock._readers, lock._writer, len(lock._waiters)) == (0, None, 0)


WORK: dict[str, Callable[[], tuple[Callable[[], object], Callable[[], object]]]] = {
    "Lock": lambda: (using(lock := Lock()), lambda: not lock.locked() and not lock._waiters),
    "Lock, after a loop": lambda: (with_a_loop_at_its_end(lock := Lock()), lambda: not lock.locked()),
    "RLock": lambda: (using(lock := RLock()), lambda: not lock.locked() and not lock._waiters),
    "Semaphore": lambda: (using(s := Semaphore()), lambda: s._value == 1 and not s._waiters),
    "BoundedSemaphore": lambda: (using(s := BoundedSemaphore()), lambda: s._value == 1 and not s._waiters),
    "Condition": a_condition,
    "RWLock": an_rwlock,
}


@pytest.mark.parametrize("make", WORK.values(), ids=WORK)
def test_whatever_is_interrupted_is_whole_afterwards(make: Any, monkeypatch: Any) -> None:
    # The last interrupt may come when the thread's work is done, and leave it.
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: None)
    work, is_whole = make()
    interrupt_in_the_middle_of(work, 20_000)
    assert is_whole()


def test_these_are_all_that_can_block_in_a_kernel_thread() -> None:
    """A primitive of its own file belongs behind the shield."""
    classes: list[Any] = [Lock, Condition, Event, Semaphore, Queue, SimpleQueue, RWLock]
    files = {cls.__init__.__code__.co_filename for cls in classes}
    files |= {method.__code__.co_filename for method in (RLock.acquire, Once.call, KernelTask.park)}
    assert files <= shield.shielded
