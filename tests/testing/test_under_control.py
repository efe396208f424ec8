"""Whatever a test uses of the standard library and of this one: under control, the broken one found, the other not."""

from __future__ import annotations

import _thread
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pytest
from plain import explore, replay

import greenthreads


class Count:
    """A counter that loses an update when two threads are in it at once."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        before = self.value
        time.sleep(0)
        self.value = before + 1


def pool(guarded: bool) -> None:
    count, lock = Count(), threading.Lock()

    def add(_number: int) -> None:
        if guarded:
            with lock:
                count.add()
        else:
            count.add()

    with ThreadPoolExecutor(2) as executor:
        list(executor.map(add, range(2)))
    assert count.value == 2


def pool_without_with(waits: bool) -> None:
    done: list[int] = []
    executor = ThreadPoolExecutor(1)
    executor.submit(done.append, 1)
    executor.shutdown(wait=waits)
    assert done


def pool_left_alone(waits: bool) -> None:
    done: list[int] = []
    future = ThreadPoolExecutor(1).submit(done.append, 1)
    if waits:
        future.result()
    assert done


def cancelled(checks: bool) -> None:
    executor = ThreadPoolExecutor(1)
    futures = [executor.submit(time.sleep, 1) for _ in range(2)]
    executor.shutdown(cancel_futures=True)
    for future in futures:
        if not checks or not future.cancelled():
            future.result()


def first_of_two(takes_any: bool) -> None:
    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(int, text) for text in "12"]
        done, _ = wait(futures, return_when=FIRST_COMPLETED)
        first = {future.result() for future in done}
        assert first if takes_any else first != {2}
        assert {future.result() for future in as_completed(futures)} == {1, 2}


def future_by_hand(sets: bool) -> None:
    future: Future[int] = Future()
    threading.Thread(target=future.set_result if sets else future.exception, args=(1,)).start()
    assert future.result() == 1


def subclass(joins: bool) -> None:
    class Worker(threading.Thread):
        done = False

        def run(self) -> None:
            self.done = True

    worker = Worker(daemon=True)
    worker.start()
    if joins:
        worker.join()
    assert worker.done


def timer(in_time: bool) -> None:
    fired: list[int] = []
    late = threading.Timer(5, fired.append, [1])
    late.start()
    time.sleep(4 if in_time else 6)
    late.cancel()
    late.join()
    assert not fired


def low_level(waits: bool) -> None:
    lock, done = _thread.allocate_lock(), []
    lock.acquire()

    def body() -> None:
        done.append(1)
        lock.release()

    _thread.start_new_thread(body, ())
    if waits:
        lock.acquire()
    assert done


def simple_queue(blocks: bool) -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=items.put, args=(1,)).start()
    assert items.get(block=blocks) == 1


def queue_join(reports: bool) -> None:
    items: queue.PriorityQueue[int] = queue.PriorityQueue(1)

    def consume() -> None:
        for _ in range(2):
            items.get()
            if reports:
                items.task_done()

    threading.Thread(target=consume).start()
    items.put(2)
    items.put(1)
    items.join()


def barrier(enough: bool) -> None:
    meeting = threading.Barrier(2 if enough else 3)
    threading.Thread(target=meeting.wait).start()
    meeting.wait()


def locals_of_threads(local: bool) -> None:
    space: Any = threading.local() if local else Count()

    def body(number: int) -> None:
        space.number = number
        time.sleep(0)
        assert space.number == number

    threads = [threading.Thread(target=body, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def kernel_thread(joins: bool) -> None:
    done: list[int] = []
    thread = greenthreads.Thread(target=done.append, args=(1,), kind="kernel", daemon=True)
    thread.start()
    if joins:
        thread.join()
    assert done


def kernel_call(calls: bool) -> None:
    idents: list[int] = []
    thread = threading.Thread(target=lambda: idents.append(greenthreads.run_in_kernel_thread(lambda: 7)))
    thread.start()
    if calls:
        thread.join()
    assert idents == [7]


def group(guarded: bool) -> None:
    count, lock = Count(), threading.Lock()

    def add() -> None:
        if guarded:
            with lock:
                count.add()
        else:
            count.add()

    with greenthreads.ThreadGroup() as threads:
        threads.start(add)
        threads.start(add)
    assert count.value == 2


def once(uses: bool) -> None:
    count, first = Count(), greenthreads.Once()
    threads = [threading.Thread(target=(lambda: first.call(count.add)) if uses else count.add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.value == (1 if uses else 2)


def readers_and_writers(writes: bool) -> None:
    lock, count = greenthreads.RWLock(), Count()

    def add() -> None:
        with lock.write() if writes else lock.read():
            count.add()

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.value == 2


def scope_of_time(in_time: bool) -> None:
    with greenthreads.timeout(2 if in_time else 1):
        time.sleep(1.5)


def traced(calls: bool) -> None:
    lines: list[str] = []
    threading.settrace(lambda frame, event, _arg: lines.append(event) if frame.f_code.co_name == "body" else None)

    def body() -> None:
        pass

    try:
        thread = threading.Thread(target=body if calls else time.monotonic)
        thread.start()
        thread.join()
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    assert lines == ["call"]


def interrupted(handles: bool) -> None:
    def body() -> None:
        try:
            threading.Event().wait()
        except greenthreads.ThreadInterrupted:
            if not handles:
                raise

    thread: Any = threading.Thread(target=body)
    thread.start()
    time.sleep(1)
    thread.interrupt()
    thread.join()


def hook(own: bool) -> None:
    seen: list[type] = []
    if own:
        threading.excepthook = lambda args: seen.append(args.exc_type)
    thread = threading.Thread(target=int, args=("x",))
    thread.start()
    thread.join()
    assert seen == [ValueError]


PAIRS: list[Callable[[bool], None]] = [
    barrier, cancelled, first_of_two, future_by_hand, group, hook, interrupted, kernel_call, kernel_thread,
    locals_of_threads,
    low_level, once, pool, pool_left_alone, pool_without_with, queue_join, readers_and_writers, scope_of_time,
    simple_queue, subclass, timer, traced,
]  # fmt: skip


@pytest.mark.parametrize("program", PAIRS)
def test_the_repaired_one_passes(program: Callable[[bool], None]) -> None:
    hook_before = threading.excepthook
    assert explore(lambda: program(True), max_executions=200).failure is None
    assert threading.excepthook is hook_before


@pytest.mark.parametrize("program", [each for each in PAIRS if each is not cancelled])
def test_the_broken_one_fails(program: Callable[[bool], None]) -> None:
    assert explore(lambda: program(False), max_executions=500).failure is not None


def test_threads_alive_are_those_of_the_execution() -> None:
    def main() -> None:
        ends = threading.Event()
        thread = threading.Thread(target=ends.wait, name="started")
        thread.start()
        _thread.start_new_thread(ends.wait, ())
        assert [thread.name for thread in threading.enumerate()] == ["MainThread", "started"]
        assert (threading.active_count(), _thread._count()) == (2, 2)
        ends.set()
        thread.join()
        assert threading.enumerate() == [threading.main_thread()]

    found = explore(main, strategy="dpor")
    assert (found.failure, found.exhausted) == (None, True)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_daemons_that_wait_for_one_another_are_a_deadlock(make: Callable[[], Any]) -> None:
    def main(ordered: bool) -> None:
        first, second = make(), make()

        def take(mine: Any, other: Any) -> None:
            with mine, other:
                pass

        for locks in ((first, second), (first, second) if ordered else (second, first)):
            threading.Thread(target=take, args=locks, daemon=True).start()
        time.sleep(1)

    found = explore(lambda: main(False))
    assert found.failure is not None
    assert found.failure.kind == "deadlock"
    assert explore(lambda: main(True), strategy="dpor").exhausted


def test_daemons_that_wait_for_work_are_none() -> None:
    def main() -> None:
        jobs: queue.Queue[int] = queue.Queue()
        for _ in range(2):
            threading.Thread(target=jobs.get, daemon=True).start()
        time.sleep(1)

    found = explore(main, strategy="dpor")
    assert (found.failure, found.exhausted) == (None, True)


def test_a_bad_timeout_is_refused_when_the_standard_modules_do(outcome: Any) -> None:
    record: list[object] = []

    def main() -> None:
        record.clear()
        semaphore = threading.Semaphore(1)
        jobs: queue.Queue[int] = queue.Queue(1)
        record.extend(outcome(semaphore.acquire, True, timeout) for timeout in (1e12, 1e12))
        record.extend(outcome(jobs.put, 1, True, timeout) for timeout in (1e12, -1, 1e12))
        record.extend(outcome(jobs.get, True, timeout) for timeout in (-1, 1e12, -1, 1e12))
        if sys.version_info >= (3, 13):
            jobs.shutdown()
            record.extend([outcome(jobs.get, True, -1), outcome(jobs.put, 1, True, -1)])

    main()
    standard = record.copy()
    assert explore(main, max_executions=1).failure is None
    assert record == standard


@pytest.mark.parametrize("pause", [0.0, sys.float_info.min, 1e-6])
def test_what_is_done_for_some_time_comes_to_an_end(pause: float) -> None:
    def main() -> None:
        lock = threading.Lock()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with lock:
                rounds.append(1)
            time.sleep(pause)

    rounds: list[int] = []
    found = explore(main, strategy="random", max_executions=1)
    assert found.failure is None
    assert rounds


def test_a_long_test_is_no_livelock() -> None:
    def main() -> None:
        lock = threading.Lock()
        for _ in range(15_000):
            with lock:
                pass

    assert explore(main, strategy="random", max_executions=2).failure is None
    found = explore(main, strategy="random", max_executions=2, max_steps=20_000, shrinking=False)
    assert found.failure is not None
    assert str(found.failure.exception).splitlines() == [
        "no end after 20000 steps",
        "(if the test is just that long, give it more by max_steps)",
    ]


def test_a_failure_after_many_steps_is_replayed() -> None:
    def main() -> None:
        lock = threading.Lock()
        for _ in range(15_000):
            with lock:
                pass
        raise ValueError("in the end")

    found = explore(main, strategy="random", max_executions=2, shrinking=False)
    assert found.failure is not None
    with pytest.raises(ValueError, match="in the end"):
        replay(main, found.failure.trace)


def test_a_lock_left_held_says_by_whom_and_where() -> None:
    def main(releases: bool) -> None:
        lock = threading.Lock()

        def body() -> None:
            lock.acquire()
            if releases:
                lock.release()

        thread = threading.Thread(target=body, name="careless")
        thread.start()
        thread.join()

    assert explore(lambda: main(True), check_locks=True).failure is None
    assert explore(lambda: main(False)).failure is None
    found = explore(lambda: main(False), check_locks=True).failure
    assert found is not None
    line = test_a_lock_left_held_says_by_whom_and_where.__code__.co_firstlineno + 5
    assert (found.kind, found.thread) == ("lock left held", "1")
    assert str(found.exception) == f"Lock left held, taken by 'careless' at test_under_control.py:{line}"


def test_a_thread_never_joined_says_where_it_was_started() -> None:
    def main(joins: bool) -> None:
        thread = threading.Thread(target=time.sleep, args=(1,), name="orphan")
        thread.start()
        if joins:
            thread.join()

    assert explore(lambda: main(True), check_joined=True).failure is None
    assert explore(lambda: main(False)).failure is None
    found = explore(lambda: main(False), check_joined=True).failure
    assert found is not None
    line = test_a_thread_never_joined_says_where_it_was_started.__code__.co_firstlineno + 3
    assert found.kind == "thread not joined"
    assert str(found.exception) == f"thread 'orphan', started at test_under_control.py:{line}, was never joined"


@pytest.mark.soak
def test_a_hundred_thousand_executions_leave_nothing() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    sizes: list[int] = []
    executions = itertools.count(1)

    def main() -> None:
        if next(executions) % 10_000 == 0:
            sizes.append(resident())
        pool_left_alone(True)

    found = explore(main, strategy="random", max_executions=100_000, max_seconds=None)
    assert (found.failure, found.executions) == (None, 100_000)
    # From the first ten thousand on: less than a tenth more.
    assert sizes[-1] < 1.1 * sizes[0]
