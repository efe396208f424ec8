"""An interrupt at every point where it can strike, on everything that a thread can wait for.

The points: before the thread waits; while it waits; just before it is given what it waits for; after it was given it
and before it runs again. Whichever it is, the interrupt is raised exactly once, in the thread; and the primitive is as
whole as if the thread had never come (or had come, got it, and given it back).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from greenthreads import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    Queue,
    RLock,
    RWLock,
    SimpleQueue,
    Thread,
    ThreadInterrupted,
    run_in_kernel_thread,
    run_scheduler,
    sleep,
    yield_now,
)


class Case(NamedTuple):
    """A wait: how to begin it, how another thread ends it, and how to see that the primitive is whole afterwards."""

    wait: Callable[[], object]
    # Gives the waiter what it waits for.
    give: Callable[[], object]
    # After an interrupt without a gift, and after a gift was given and used or kept.
    whole: Callable[[], bool]
    # Gives back what a thread got that was interrupted later.
    give_back: Callable[[], object] = lambda: None


def lock() -> Case:
    it = Lock()
    it.acquire()
    return Case(it.acquire, it.release, lambda: not it._waiters, it.release)


def rlock() -> Case:
    it = RLock()
    it.acquire()

    def whole() -> bool:
        got = []
        other = Thread(target=lambda: got.append(it.acquire(False) and (it.release() or True)))
        other.start()
        other.join()
        return got in ([True], [False])

    return Case(it.acquire, it.release, whole, it.release)


def semaphore() -> Case:
    it = BoundedSemaphore(1)
    it.acquire()
    return Case(it.acquire, it.release, lambda: it._value <= 1, it.release)


def condition() -> Case:
    it = Condition()

    def wait() -> None:
        with it:
            it.wait()

    def notify() -> None:
        with it:
            it.notify()

    def whole() -> bool:
        with it:
            return not it._waiters

    return Case(wait, notify, whole)


def event() -> Case:
    it = Event()
    return Case(it.wait, it.set, lambda: not it._waiters)


def get() -> Case:
    it: Queue[int] = Queue()
    return Case(it.get, lambda: it.put(1), lambda: it.qsize() == 0)


def put() -> Case:
    it: Queue[int] = Queue(1)
    it.put(0)
    return Case(lambda: it.put(1), it.get, lambda: it.qsize() == 1)


def simple_get() -> Case:
    it: SimpleQueue[int] = SimpleQueue()
    return Case(it.get, lambda: it.put(1), lambda: it.qsize() == 0)


def join_queue() -> Case:
    it: Queue[int] = Queue()
    it.put(1)
    return Case(it.join, it.task_done, lambda: it.unfinished_tasks <= 1)


def join_thread() -> Case:
    stop = Event()
    it = Thread(target=stop.wait)
    it.start()
    yield_now()

    def give() -> None:
        stop.set()
        while it.is_alive():
            yield_now()

    def whole() -> bool:
        stop.set()
        it.join()
        return not it.is_alive()

    return Case(it.join, give, whole)


def reading() -> Case:
    it = RWLock()
    writer = it.write()
    writer.__enter__()

    def read() -> None:
        with it.read():
            pass

    def whole() -> bool:
        return True

    return Case(read, lambda: writer.__exit__(None, None, None), whole)


CASES = [lock, rlock, semaphore, condition, event, get, put, simple_get, join_queue, join_thread, reading]


class Waiter:
    """A thread that begins a wait, and notes how it ends."""

    def __init__(self, case: Case) -> None:
        self.record: list[str] = []
        self.case = case
        self.thread = Thread(target=self._run)

    def _run(self) -> None:
        got = False
        try:
            self.record.append("waits")
            self.case.wait()
            got = True
            self.record.append("got")
            yield_now()
            self.record.append("went on")
        except ThreadInterrupted:
            self.record.append("interrupted")
        finally:
            if got:
                self.case.give_back()


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[], Case]:
    return request.param  # type: ignore[no-any-return]


def scenario(make: Callable[[], Case], play: Callable[[Case, Waiter], object]) -> list[str]:
    def main() -> list[str]:
        case = make()
        waiter = Waiter(case)
        waiter.thread.start()
        play(case, waiter)
        waiter.thread.join()
        assert case.whole()
        return waiter.record

    return run_scheduler(main)  # type: ignore[no-any-return]


def test_before_it_waits(make: Callable[[], Case]) -> None:
    def play(case: Case, waiter: Waiter) -> None:
        wait = case.wait

        def interrupted_first() -> object:
            waiter.thread.interrupt()
            return wait()

        waiter.case = case._replace(wait=interrupted_first)

    assert scenario(make, play) == ["waits", "interrupted"]


def test_while_it_waits(make: Callable[[], Case]) -> None:
    def play(case: Case, waiter: Waiter) -> None:
        yield_now()
        waiter.thread.interrupt()

    assert scenario(make, play) == ["waits", "interrupted"]


def test_twice_while_it_waits(make: Callable[[], Case]) -> None:
    def play(case: Case, waiter: Waiter) -> None:
        yield_now()
        waiter.thread.interrupt()
        waiter.thread.interrupt()

    assert scenario(make, play) == ["waits", "interrupted"]


def test_after_it_was_woken(make: Callable[[], Case]) -> None:
    """What it was given it keeps; the interrupt is raised where it next gives way."""

    def play(case: Case, waiter: Waiter) -> None:
        yield_now()
        case.give()
        waiter.thread.interrupt()

    assert scenario(make, play) in (["waits", "got", "interrupted"], ["waits", "interrupted"])


def test_just_before_it_is_woken(make: Callable[[], Case]) -> None:
    """The waker comes too late for this one, and what it gives is not lost: the next one gets it."""

    def main() -> list[str]:
        case = make()
        first, second = Waiter(case), Waiter(case)
        first.thread.start()
        second.thread.start()
        yield_now()
        first.thread.interrupt()
        case.give()
        first.thread.join()
        second.thread.join()
        return first.record + second.record

    assert run_scheduler(main) == ["waits", "interrupted", "waits", "got", "went on"]


def test_among_others_the_order_stays(make: Callable[[], Case]) -> None:
    if make in (condition, put, get, simple_get):
        pytest.skip("one gift serves one waiter there")

    def main() -> list[list[str]]:
        case = make()
        waiters = [Waiter(case) for _ in range(3)]
        for waiter in waiters:
            waiter.thread.start()
        yield_now()
        waiters[1].thread.interrupt()
        case.give()
        for waiter in waiters:
            waiter.thread.join()
        return [waiter.record for waiter in waiters]

    assert run_scheduler(main) == [["waits", "got", "went on"], ["waits", "interrupted"], ["waits", "got", "went on"]]


def test_a_kernel_thread_is_interrupted_while_it_waits(
    make: Callable[[], Case], until: Callable[..., Any], waits: Callable[..., bool]
) -> None:
    def main() -> list[str]:
        case = make()
        waiter = Waiter(case)
        waiter.thread = Thread(target=waiter._run, kind="kernel")
        waiter.thread.start()
        until(lambda: waits(waiter.thread))
        waiter.thread.interrupt()
        waiter.thread.join()
        assert case.whole()
        return waiter.record

    assert run_scheduler(main) == ["waits", "interrupted"]


def test_a_broken_barrier_tells_the_others() -> None:
    def main() -> list[str]:
        barrier = Barrier(3)
        waiters = [Waiter(Case(barrier.wait, lambda: None, lambda: True)) for _ in range(2)]
        record: list[str] = []

        def other() -> None:
            try:
                barrier.wait()
            except Exception as error:
                record.append(type(error).__name__)

        waiters[0].thread.start()
        bystander = Thread(target=other)
        bystander.start()
        yield_now()
        waiters[0].thread.interrupt()
        waiters[0].thread.join()
        bystander.join()
        return waiters[0].record + record

    assert run_scheduler(main) == ["waits", "interrupted", "BrokenBarrierError"]


def test_sleeps_and_calls_in_kernel_threads_are_cut_short() -> None:
    def main() -> list[str]:
        done = Event()
        record = []
        for wait in (lambda: sleep(3600), lambda: run_in_kernel_thread(done.wait)):
            waiter = Waiter(Case(wait, lambda: None, lambda: True))
            waiter.thread.start()
            yield_now()
            waiter.thread.interrupt()
            waiter.thread.join()
            record += waiter.record
        done.set()
        return record

    assert run_scheduler(main) == ["waits", "interrupted"] * 2
