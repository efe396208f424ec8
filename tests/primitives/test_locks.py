"""`Lock` and `RLock`: who may take and release them, how often, and what a thread sees meanwhile."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import Condition, Lock, RLock, Thread, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind


@pytest.fixture(params=[Lock, RLock])
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Each class of lock in turn."""
    return request.param  # type: ignore[no-any-return]


def test_two_threads_exclude_each_other(make: Any, pair: Any) -> None:
    lock = make()
    counter = 0

    def work() -> None:
        nonlocal counter
        for turn in range(200):
            with lock:
                before = counter
                if turn % 10 == 0:
                    yield_now()
                counter = before + 1

    def main() -> None:
        thread = pair.start(work)
        work()
        thread.join()

    pair.run(main)
    assert (counter, lock.locked()) == (400, False)


def test_a_thread_that_waits_lets_others_run(make: Any, run_virtually: Any) -> None:
    lock, record = make(), []

    def hold() -> None:
        with lock:
            sleep(1)
            record.append("released")

    def main() -> None:
        Thread(target=hold).start()
        yield_now()
        with lock:
            record.append("taken")

    run_virtually(main)
    assert record == ["released", "taken"]


def test_acquire_says_whether_the_lock_was_taken(make: Any, run_virtually: Any, outcome: Any) -> None:
    def main() -> list[object]:
        lock = make()
        record: list[object] = [lock.acquire(), lock.locked()]
        clock = Thread(target=lambda: None)
        clock.start()
        other = Thread(
            target=lambda: record.extend(
                [lock.acquire(False), lock.acquire(blocking=False), lock.acquire(timeout=0), lock.acquire(True, 3)]
            )
        )
        other.start()
        other.join()
        lock.release()
        return [*record, lock.locked(), outcome(lock.release)[0]]

    assert run_virtually(main) == [True, True, False, False, False, False, False, RuntimeError]


def test_a_timeout_is_as_long_as_was_asked_for(make: Any) -> None:
    from scheduler import Scheduler, VirtualClock

    clock = VirtualClock()
    lock = make()
    threading.Thread(target=lock.acquire).start()

    def main() -> tuple[object, float]:
        return lock.acquire(timeout=12.5), clock.now()

    assert Scheduler(clock=clock).run(main) == (False, 12.5)
    assert len(lock._waiters) == 0


def test_a_lock_in_a_with_statement_is_released_by_an_exception(make: Any, kind: Kind) -> None:
    lock, record = make(), []

    def work() -> None:
        try:
            with lock as entered:
                record.append((entered, lock.locked()))
                raise KeyError
        except KeyError:
            record.append(lock.locked())

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        thread.join()

    run_scheduler(main)
    assert record == [(True, True), False]


def test_a_lock_that_is_given_away_cannot_be_overtaken(make: Any, pair: Any, until: Any) -> None:
    """Whoever releases it and asks for it at once stands behind the one who has waited."""
    lock, record = make(), []

    def other() -> None:
        with lock:
            record.append("other")

    def main() -> None:
        with lock:
            thread = pair.start(other)
            until(lambda: len(lock._waiters) == 1)
            record.append("first")
        taken = lock.acquire(False)
        with lock if not taken else Lock():
            record.append("first again")
        thread.join()

    pair.run(main)
    assert record == ["first", "other", "first again"]


def test_any_thread_may_release_a_lock(pair: Any, outcome: Any) -> None:
    lock, record = Lock(), []

    def main() -> None:
        lock.acquire()
        thread = pair.start(lambda: record.append(outcome(lock.release)))
        thread.join()
        record.append(lock.locked())

    pair.run(main)
    assert record == [("returned", None), False]


def test_only_the_owner_may_release_an_rlock(pair: Any, outcome: Any) -> None:
    lock, record = RLock(), []

    def other() -> None:
        record.append(outcome(lock.release))
        record.append((lock.locked(), lock._is_owned(), lock._recursion_count(), lock.acquire(False)))
        record.append(outcome(Condition(lock).notify))

    def main() -> None:
        with lock:
            thread = pair.start(other)
            thread.join()
            record.append((lock._is_owned(), lock._recursion_count()))

    pair.run(main)
    assert record == [
        (RuntimeError, "cannot release un-acquired lock"),
        (True, False, 0, False),
        (RuntimeError, "cannot notify on un-acquired lock"),
        (True, 1),
    ]


def test_the_owner_takes_an_rlock_again_and_releases_it_as_often(kind: Kind, outcome: Any) -> None:
    lock, record = RLock(), []

    def free() -> bool:
        answers: list[bool] = []
        thread = Thread(target=lambda: answers.append(lock.acquire(False) and not lock.release()), kind=kind)
        thread.start()
        thread.join()
        return answers[0]

    def work() -> None:
        record.extend((lock.acquire(), lock._recursion_count()) for _ in range(3))
        with lock:
            record.append(lock._recursion_count())
        for _ in range(3):
            record.append(free())
            lock.release()
        record.append((free(), outcome(lock.release)))

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        thread.join()

    run_scheduler(main)
    nobody_s = (RuntimeError, "cannot release un-acquired lock")
    assert record == [(True, 1), (True, 2), (True, 3), 4, False, False, False, (True, nobody_s)]


def test_a_whole_rlock_is_given_up_and_taken_back_by_a_condition(pair: Any, until: Any, waits: Any) -> None:
    condition, record = Condition(), []

    def other() -> None:
        with condition:
            record.append("has it")
            condition.notify()

    def main() -> None:
        with condition, condition, condition:
            thread = pair.start(other)
            condition.wait()
            record.append(condition._lock._recursion_count())
        thread.join()

    pair.run(main)
    assert record == ["has it", 3]


def test_an_rlock_belongs_to_the_main_thread_inside_and_outside_of_its_scheduler() -> None:
    """The main user thread is the thread that called `run_scheduler`; the other user threads are not."""
    lock, record = RLock(), []

    def main() -> None:
        record.append((lock.acquire(False), lock._is_owned(), lock._recursion_count()))
        other = Thread(target=lambda: record.append((lock.acquire(False), lock._is_owned())))
        other.start()
        other.join()
        with lock:
            record.append(lock._recursion_count())

    with lock:
        run_scheduler(main)
        record.append(lock._recursion_count())
    record.append(lock._recursion_count())
    lock.release()
    assert record == [(True, True, 2), (False, False), 3, 2, 1]
    assert not lock.locked()
    run_scheduler(lock.acquire)
    lock.release()
    assert not lock.locked()


def test_repr(make: Any, kind: Kind) -> None:
    def main() -> list[str]:
        lock = make()
        record = [repr(lock)]
        with lock:
            record.append(repr(lock).replace(hex(id(lock)), "ADDRESS"))
        record[0] = record[0].replace(hex(id(lock)), "ADDRESS")
        return record

    thread_count = " owner={} count={}" if make is RLock else ""
    from greenthreads import get_ident

    ident, shown = run_scheduler(lambda: (get_ident(), main()))
    name = f"greenthreads.{make.__name__} object"
    assert shown == [
        f"<unlocked {name}{thread_count.format(0, 0)} at ADDRESS>",
        f"<locked {name}{thread_count.format(ident, 1)} at ADDRESS>",
    ]


def test_a_lock_is_no_base_class_and_an_rlock_is_one() -> None:
    with pytest.raises(TypeError, match=r"^type 'greenthreads.Lock' is not an acceptable base type$"):
        type("Sub", (Lock,), {})

    class Named(RLock):
        def __init__(self, name: str) -> None:
            self.name = name

    with Named("x") as entered:
        assert entered is True
    assert Named("x").name == "x"


def test_a_lock_cannot_be_pickled(make: Any) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(make())


def test_after_a_fork_reinit_it_is_open_and_nobody_waits(make: Any) -> None:
    lock = make()
    lock.acquire()
    lock._at_fork_reinit()
    assert (lock.locked(), len(lock._waiters), lock.acquire(False)) == (False, 0, True)


def test_the_names_of_old() -> None:
    lock = Lock()
    assert (lock.acquire_lock(), lock.locked_lock(), lock.release_lock(), lock.locked_lock()) == (
        True, True, None, False,
    )  # fmt: skip
