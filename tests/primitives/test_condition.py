"""`Condition`: what is its own, beside the handover that it shares with all primitives."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from greenthreads import Condition, Lock, RLock, Thread, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


class PlainLock:
    """A lock of the program's own: all that it has is what a condition needs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        if sys.version_info >= (3, 14):
            self.locked = self._lock.locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class SubclassedRLock(RLock):
    """Not ours any more, as far as a condition can tell."""


@pytest.fixture(params=[None, Lock, RLock, PlainLock, SubclassedRLock], ids=lambda lock: lock and lock.__name__)
def condition(request: pytest.FixtureRequest) -> Condition:
    """A condition over each sort of lock in turn."""
    return Condition(request.param and request.param())


def test_waiters_go_on_in_the_order_in_which_they_came_and_only_as_many_as_are_notified(
    condition: Condition, run_virtually: Any
) -> None:
    record: list[object] = []

    def wait(name: str) -> None:
        with condition:
            record.append((name, condition.wait()))

    def main() -> None:
        for name in "abcde":
            Thread(target=wait, args=(name,)).start()
        yield_now()
        for number in (1, 2):
            with condition:
                condition.notify(number)
            sleep(1)
            record.append(number)
        with condition:
            condition.notify_all()
            condition.notify_all()

    run_virtually(main)
    assert record == [("a", True), 1, ("b", True), ("c", True), 2, ("d", True), ("e", True)]


def test_between_any_two_threads(condition: Condition, pair: Any) -> None:
    """A turn that goes to and fro."""
    record: list[str] = []

    def play(name: str, other: str) -> None:
        for _ in range(5):
            with condition:
                condition.wait_for(lambda: (record or ["second"])[-1] == other)
                record.append(name)
                condition.notify()

    def main() -> None:
        thread = pair.start(play, "second", "first")
        play("first", "second")
        thread.join()

    pair.run(main)
    assert record == ["first", "second"] * 5


def test_a_woken_thread_waits_for_the_lock(condition: Condition, run_virtually: Any) -> None:
    record: list[str] = []

    def wait() -> None:
        with condition:
            condition.wait()
            record.append("woken")

    def main() -> None:
        Thread(target=wait).start()
        yield_now()
        with condition:
            condition.notify()
            sleep(10)
            record.append("releases")

    run_virtually(main)
    assert record == ["releases", "woken"]


def test_a_timeout_does_not_spare_the_lock(condition: Condition) -> None:
    """`wait` may be late, but does not end without the lock."""
    clock = VirtualClock()
    record: list[object] = []

    def wait() -> None:
        with condition:
            record.append((condition.wait(5), clock.now(), condition._is_owned()))

    def main() -> None:
        Thread(target=wait).start()
        yield_now()
        with condition:
            sleep(8)

    Scheduler(clock=clock).run(main)
    assert record == [(False, 8.0, True)]
    assert len(condition._waiters) == 0


def test_an_interrupt_does_not_spare_the_lock_either(condition: Condition, run_virtually: Any) -> None:
    record: list[object] = []

    def wait() -> None:
        with condition:
            try:
                condition.wait()
            except ThreadInterrupted as error:
                record.append((str(error), condition._is_owned()))

    def main() -> None:
        thread = Thread(target=wait)
        thread.start()
        yield_now()
        with condition:
            thread.interrupt(ThreadInterrupted("first"))
            sleep(1)  # It has been interrupted, and waits for the lock, where it is interrupted again.
            thread.interrupt(ThreadInterrupted("second"))
            sleep(1)
            record.append("releases")

    run_virtually(main)
    assert record == ["releases", ("second", True)]
    assert len(condition._waiters) == 0


def test_who_is_interrupted_leaves_the_notification_to_the_next(condition: Condition, run_virtually: Any) -> None:
    record: list[str] = []

    def wait(name: str) -> None:
        with condition:
            try:
                condition.wait()
                record.append(name)
            except ThreadInterrupted:
                record.append(f"{name} interrupted")

    def main() -> None:
        first, second = (Thread(target=wait, args=(name,)) for name in "ab")
        first.start()
        second.start()
        yield_now()
        first.interrupt()
        yield_now()  # A condition over a foreign lock hears of it when the thread has run.
        with condition:
            condition.notify()

    run_virtually(main)
    assert sorted(record) == ["a interrupted", "b"]


def test_who_is_interrupted_between_the_notification_and_the_lock_passes_the_notification_on(
    condition: Condition, run_virtually: Any
) -> None:
    record: list[str] = []

    def wait(name: str) -> None:
        with condition:
            try:
                condition.wait()
                record.append(name)
            except ThreadInterrupted:
                record.append(f"{name} interrupted")

    def main() -> None:
        first, second = (Thread(target=wait, args=(name,)) for name in "ab")
        first.start()
        second.start()
        yield_now()
        with condition:
            condition.notify()
            sleep(1)  # It was notified, and waits for the lock.
            first.interrupt()

    run_virtually(main)
    assert record == ["a interrupted", "b"]


def test_a_signal_handler_that_raises_in_a_notified_kernel_thread_passes_the_notification_on(
    condition: Condition, until: Any
) -> None:
    """Only a thread that has woken up for good uses a notification up."""
    from scheduler import current_task

    record: list[str] = []

    def wait() -> None:
        with condition:
            condition.wait()
            record.append("woken")

    second = Thread(target=wait, kind="kernel")

    class Bell:
        rung = False

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            second.start()
            until(lambda: len(condition._waiters) == 2)
            with condition:
                condition.notify()
            raise KeyboardInterrupt

        def release(self) -> None:
            self.rung = True

    me: Any = current_task()
    me._bell = Bell()
    with condition, pytest.raises(KeyboardInterrupt):
        condition.wait()
    second.join()
    assert record == ["woken"]


def test_wait_for_returns_what_the_predicate_returned_last(condition: Condition, run_virtually: Any) -> None:
    answers = iter([0, "", "yes"])
    record: list[object] = []

    def wait() -> None:
        with condition:
            record.append(condition.wait_for(lambda: next(answers)))

    def main() -> None:
        Thread(target=wait).start()
        for _ in range(2):
            yield_now()
            with condition:
                condition.notify()

    run_virtually(main)
    assert record == ["yes"]


def test_wait_for_gives_up_in_time_however_often_it_is_woken(condition: Condition) -> None:
    clock = VirtualClock()
    calls: list[float] = []

    def wait() -> object:
        with condition:
            return condition.wait_for(lambda: calls.append(clock.now()), timeout=5)

    def disturb() -> None:
        for _ in range(3):
            sleep(2)
            with condition:
                condition.notify()

    def main() -> object:
        Thread(target=disturb, daemon=True).start()
        return wait()

    assert Scheduler(clock=clock).run(main) is None
    assert calls == [0.0, 2.0, 4.0, 5.0]


@pytest.mark.parametrize("call", ["wait", "notify", "notify_all"])
def test_without_the_lock_it_is_an_error_in_threading_s_words(condition: Condition, call: str, outcome: Any) -> None:
    standard = threading.Condition()
    # A notification of nobody is checked as well.
    expected = outcome(getattr(standard, call))
    assert expected[0] is RuntimeError
    assert outcome(getattr(condition, call)) == expected
    assert run_scheduler(outcome, getattr(condition, call)) == expected
    assert len(condition._waiters) == 0


def test_the_lock_s_methods_are_the_condition_s() -> None:
    lock = RLock()
    condition = Condition(lock)
    assert (condition.acquire(), condition.acquire(), lock._recursion_count()) == (True, True, 2)
    condition.release()
    condition.release()
    assert not lock.locked()


def test_two_conditions_over_one_lock(kind: Kind, until: Any) -> None:
    lock, record = Lock(), []
    conditions = {name: Condition(lock) for name in ("first", "second")}

    def wait(name: str) -> None:
        with conditions[name]:
            conditions[name].wait()
            record.append(name)

    def main() -> None:
        threads = [Thread(target=wait, args=(name,), kind=kind) for name in conditions]
        for thread in threads:
            thread.start()
        until(lambda: [len(condition._waiters) for condition in conditions.values()] == [1, 1])
        for name in ("second", "first"):
            with lock:
                conditions[name].notify()
            until(lambda: name in record)  # noqa: B023
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert record == ["second", "first"]


def test_the_spelling_of_old_warns_as_threading_s_does() -> None:
    for condition in (Condition(), threading.Condition()):
        with condition, pytest.warns(DeprecationWarning, match=r"^notifyAll\(\) is deprecated, use notify_all"):
            condition.notifyAll()


def test_repr_says_how_many_wait() -> None:
    lock = Lock()
    condition = Condition(lock)

    def main() -> str:
        def wait() -> None:
            with condition:
                condition.wait()

        Thread(target=wait).start()
        yield_now()
        shown = repr(condition)
        with condition:
            condition.notify()
        return shown

    assert run_scheduler(main) == f"<Condition({lock}, 1)>"


def test_it_tells_whether_its_lock_is_taken(in_main: Any) -> None:
    def main() -> list[bool]:
        found = []
        for condition in (Condition(), Condition(Lock())):
            found.append(condition.locked())
            with condition:
                found.append(condition.locked())
        return found

    assert in_main(main) == [False, True, False, True]
