"""Several schedulers on several kernel threads, and kernel threads without one, share what they wait on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import Event, Lock, Queue, SimpleQueue, Thread
from scheduler import current_task, run_scheduler, yield_now


@pytest.fixture
def run_all() -> Callable[..., None]:
    """Run functions on a kernel thread each; those in a tuple as main user threads of a scheduler each."""

    def run(*mains: Any) -> None:
        failures: list[BaseException] = []

        def guarded(main: Any) -> None:
            try:
                run_scheduler(main[0]) if isinstance(main, tuple) else main()
            except BaseException as error:
                failures.append(error)

        kernels = [threading.Thread(target=guarded, args=(main,)) for main in mains]
        for kernel in kernels:
            kernel.start()
        for kernel in kernels:
            kernel.join()
        assert failures == []

    return run


def test_a_lock_excludes_threads_of_all_schedulers_and_kernel_threads(run_all: Any) -> None:
    lock = Lock()
    counter = 0
    inside: list[str] = []
    violations: list[list[str]] = []

    def work(name: str) -> None:
        nonlocal counter
        for turn in range(50):
            with lock:
                inside.append(name)
                before = counter
                if turn % 5 == 0:
                    yield_now()
                counter = before + 1
                if len(inside) != 1:
                    violations.append(list(inside))
                inside.remove(name)

    def scheduler() -> None:
        for number in range(10):
            Thread(target=work, args=(f"{threading.get_ident()} {number}",)).start()

    run_all((scheduler,), (scheduler,), lambda: work("kernel 1"), lambda: work("kernel 2"))
    assert (counter, violations, lock.locked()) == (22 * 50, [], False)


def test_a_contended_lock_goes_round_in_the_order_in_which_its_waiters_came(until: Any, run_all: Any) -> None:
    lock = Lock()
    record: list[str] = []
    lock.acquire()

    def take(name: str) -> None:
        with lock:
            record.append(name)

    def in_turn(names: list[str], as_user: bool) -> Callable[[], None]:
        def main() -> None:
            for name in names:
                until(lambda: len(lock._waiters) == order.index(name))  # noqa: B023
                if as_user:
                    thread = Thread(target=take, args=(name,))
                    thread.start()
                    until(lambda: len(lock._waiters) > order.index(name) or record)  # noqa: B023
                else:
                    take(name)

        return main

    order = ["a1", "b1", "k1", "a2", "b2", "k2"]

    def release() -> None:
        until(lambda: len(lock._waiters) == 6)
        lock.release()

    run_all(
        (in_turn(["a1", "a2"], True),),
        (in_turn(["b1", "b2"], True),),
        in_turn(["k1"], False),
        in_turn(["k2"], False),
        release,
    )
    assert record == order


def test_an_event_wakes_waiters_everywhere(until: Any, run_all: Any) -> None:
    event = Event()
    record: list[bool] = []

    def scheduler() -> None:
        for _ in range(20):
            Thread(target=lambda: record.append(event.wait())).start()

    def set_event() -> None:
        until(lambda: len(event._waiters) == 41)
        event.set()

    run_all((scheduler,), (scheduler,), lambda: record.append(event.wait()), set_event)
    assert record == 41 * [True]


@pytest.mark.parametrize("make", [Queue, lambda: Queue(3), SimpleQueue])
def test_a_queue_between_schedulers_and_kernel_threads_loses_and_doubles_nothing(
    make: Callable[[], Any], run_all: Any
) -> None:
    queue = make()
    got: list[list[tuple[str, int]]] = []
    count = 200

    def produce(name: str) -> None:
        for number in range(count):
            queue.put((name, number))

    def consume() -> None:
        mine: list[tuple[str, int]] = []
        got.append(mine)
        mine.extend(queue.get() for _ in range(count))

    def producers() -> None:
        for number in range(3):
            Thread(target=produce, args=(f"user {number}",)).start()

    def consumers() -> None:
        for _ in range(3):
            Thread(target=consume).start()

    run_all((producers,), (consumers,), lambda: produce("kernel"), consume)
    names = ["kernel", "user 0", "user 1", "user 2"]
    assert sorted(item for mine in got for item in mine) == [
        (name, number) for name in names for number in range(count)
    ]
    # Each consumer sees what any one producer put in the order in which it was put.
    for mine in got:
        for name in names:
            numbers = [number for whose, number in mine if whose == name]
            assert numbers == sorted(numbers)


def test_ping_pong_between_two_schedulers(run_all: Any) -> None:
    there: Queue[int] = Queue()
    back: Queue[int] = Queue()
    record: list[int] = []

    def ping() -> None:
        for number in range(300):
            there.put(number)
            record.append(back.get())

    def pong() -> None:
        for _ in range(300):
            back.put(there.get() * 2)

    run_all((ping,), (pong,))
    assert record == [2 * number for number in range(300)]


def test_joining_threads_of_another_scheduler(until: Any, run_all: Any) -> None:
    record: list[str] = []
    threads: list[Thread] = []
    go = Event()

    def worker() -> None:
        go.wait()
        record.append("worker")

    def first() -> None:
        threads.append(Thread(target=worker))
        threads[0].start()

    def join(name: str) -> None:
        until(lambda: threads and threads[0].ident is not None)
        go.set()
        threads[0].join()
        record.append(name)

    run_all((first,), (lambda: join("user"),), lambda: join("kernel"))
    assert record[0] == "worker"
    assert sorted(record[1:]) == ["kernel", "user"]


def test_a_kernel_thread_starts_user_threads_in_the_scheduler_that_it_was_started_from() -> None:
    record: list[object] = []

    def kernel_main() -> None:
        threads = [Thread(target=lambda n=n: record.append((n, threading.get_ident()))) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        record.append("kernel")

    def main() -> None:
        thread = Thread(target=kernel_main, kind="kernel")
        thread.start()
        thread.join()

    run_scheduler(main)
    here = threading.get_ident()
    assert record == [(0, here), (1, here), (2, here), "kernel"]


def test_a_kernel_thread_keeps_on_starting_user_threads_while_the_scheduler_ends(until: Any) -> None:
    """Each start either runs or is refused."""
    record: list[object] = []
    refused: list[str] = []

    def kernel_main() -> None:
        number = 0
        while not refused:
            try:
                Thread(target=record.append, args=(number,)).start()
            except RuntimeError as error:
                refused.append(str(error))
            else:
                number += 1
        started.append(number)

    started: list[int] = []

    def main() -> Thread:
        thread = Thread(target=kernel_main, kind="kernel")
        thread.start()
        until(lambda: len(record) >= 10)
        return thread

    for _ in range(20):
        del record[:], refused[:], started[:]
        run_scheduler(main).join()
        assert refused == ["can't start new thread: its scheduler is ending"]
        assert record == list(range(started[0]))


def test_the_scheduler_of_a_kernel_thread_has_threads_of_its_own() -> None:
    record: list[bool] = []

    def inner() -> None:
        record.append(current_task().scheduler is not outer)
        Thread(target=lambda: record.append(current_task().scheduler is not outer)).start()

    outer: Any = None

    def main() -> None:
        nonlocal outer
        outer = current_task().scheduler
        thread = Thread(target=run_scheduler, args=(inner,), kind="kernel")
        thread.start()
        thread.join()

    run_scheduler(main)
    assert record == [True, True]
