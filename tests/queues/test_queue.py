"""`Queue`, `LifoQueue`, `PriorityQueue`, `SimpleQueue`: what is put comes out once, in order, between any threads."""

from __future__ import annotations

import queue as standard
import sys
import threading
from typing import Any

import pytest

import greenthreads.queue
from greenthreads import (
    Empty,
    Full,
    LifoQueue,
    PriorityQueue,
    Queue,
    SimpleQueue,
    Thread,
    ThreadInterrupted,
    run_scheduler,
    sleep,
    yield_now,
)
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


def locked_queue() -> Queue[Any]:
    """One whose mutex somebody has asked for, which does all under it from then on."""
    queue: Queue[Any] = Queue()
    assert not queue.mutex.locked()
    return queue


FIFO = {"Queue": Queue, "locked Queue": locked_queue, "bounded Queue": lambda: Queue(3), "SimpleQueue": SimpleQueue}


@pytest.fixture(params=FIFO.values(), ids=FIFO)
def fifo(request: pytest.FixtureRequest) -> Any:
    """Each queue, or way through its code, that keeps the order."""
    return request.param()


def test_between_any_two_threads_items_keep_their_order(fifo: Any, pair: Any) -> None:
    got: list[int] = []

    def put() -> None:
        for number in range(200):
            fifo.put(number)
            if number % 7 == 0:
                yield_now()

    def main() -> None:
        thread = pair.start(put)
        got.extend(fifo.get() for _ in range(200))
        thread.join()

    pair.run(main)
    assert (got, fifo.empty(), fifo.qsize()) == (list(range(200)), True, 0)


def test_of_many_items_from_many_threads_none_is_lost_or_doubled(fifo: Any, pair: Any) -> None:
    got: list[list[tuple[str, int]]] = []

    def put(name: str) -> None:
        for number in range(60):
            fifo.put((name, number))

    def get() -> None:
        mine = []
        while (item := fifo.get()) is not None:
            mine.append(item)
        got.append(mine)

    def main() -> None:
        getters = [pair.start(get) for _ in range(3)]
        putters = [pair.start(put, name) for name in "abc"]
        put("main")
        for thread in putters:
            thread.join()
        for _ in getters:
            fifo.put(None)
        for thread in getters:
            thread.join()

    pair.run(main)
    everything = [(name, number) for name in ("a", "b", "c", "main") for number in range(60)]
    assert sorted(item for mine in got for item in mine) == everything
    for mine in got:
        for name in ("a", "b", "c", "main"):
            numbers = [number for whose, number in mine if whose == name]
            assert numbers == sorted(numbers)


def test_the_other_orders(kind: Kind) -> None:
    def through(queue: Any) -> list[object]:
        thread = Thread(target=lambda: [queue.put(item) for item in (2, 3, 1)], kind=kind)
        thread.start()
        thread.join()
        return [queue.get() for _ in range(3)]

    def main() -> list[list[object]]:
        return [through(make()) for make in (Queue, LifoQueue, PriorityQueue, SimpleQueue)]

    assert run_scheduler(main) == [[2, 3, 1], [1, 3, 2], [1, 2, 3], [2, 3, 1]]


def test_a_full_queue_lets_in_who_has_waited_longest(run_virtually: Any) -> None:
    queue: Queue[str] = Queue(2)
    record: list[str] = []

    def put(name: str) -> None:
        queue.put(name)
        record.append(f"{name} is in")

    def main() -> None:
        for name in "abcd":
            Thread(target=put, args=(name,)).start()
        sleep(1)
        record.append(f"full {queue.full()} {queue.qsize()}")
        for _ in range(4):
            record.append(f"got {queue.get()}")
            sleep(1)

    run_virtually(main)
    assert record == [
        "a is in", "b is in", "full True 2", "got a", "c is in", "got b", "d is in", "got c", "got d",
    ]  # fmt: skip


def test_an_item_goes_past_nobody_who_waits() -> None:
    """Whoever asks at once after a put finds that the item was for the one who waits."""
    queue: Queue[str] = Queue()
    record: list[str] = []

    def main() -> None:
        Thread(target=lambda: record.append(queue.get())).start()
        yield_now()
        queue.put("for the thread")
        with pytest.raises(Empty):
            queue.get_nowait()
        queue.put("for main")
        record.append(queue.get_nowait())

    run_scheduler(main)
    assert record == ["for main", "for the thread"]


def test_timeouts_are_as_long_as_was_asked_for() -> None:
    clock = VirtualClock()

    def main() -> list[object]:
        record: list[object] = []
        full: Queue[int] = Queue(1)
        full.put(1)
        for wait in (
            lambda: Queue().get(timeout=5),
            lambda: SimpleQueue().get(timeout=5),
            lambda: locked_queue().get(timeout=5),
            lambda: full.put(2, timeout=5),
        ):
            try:
                wait()  # type: ignore[no-untyped-call]
            except (Empty, Full) as error:
                record.append((type(error), clock.now()))
        return [*record, full.get(), full.empty()]

    assert Scheduler(clock=clock).run(main) == [
        (Empty, 5.0), (Empty, 10.0), (Empty, 15.0), (Full, 20.0), 1, True,
    ]  # fmt: skip


def test_join_waits_until_all_is_dealt_with(pair: Any, until: Any) -> None:
    queue: Queue[int] = Queue()
    record: list[object] = []

    def join() -> None:
        queue.join()
        record.append("joined")

    def main() -> None:
        for number in range(3):
            queue.put(number)
        thread = pair.start(join)
        until(lambda: len(queue._joiners) == 1)
        for _ in range(3):
            record.append((queue.get(), queue.unfinished_tasks))
            queue.task_done()
        thread.join()
        queue.join()
        record.append(queue.unfinished_tasks)

    pair.run(main)
    assert sorted(record, key=str) == sorted([(0, 3), (1, 2), (2, 1), "joined", 0], key=str)
    assert record.index("joined") == 3


def test_unfinished_tasks_can_be_set() -> None:
    queue: Queue[int] = Queue()
    queue.put(1)
    queue.unfinished_tasks = 5
    for _ in range(5):
        queue.task_done()
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        queue.task_done()
    queue.join()


class Unique(Queue[str]):
    """A queue as its users write them: with hooks, which may switch."""

    def _init(self, maxsize: int) -> None:
        self.queue = []

    def _qsize(self) -> int:
        return len(self.queue)

    def _put(self, item: str) -> None:
        yield_now()
        if item not in self.queue:
            self.queue.append(item)

    def _get(self) -> str:
        yield_now()
        return self.queue.pop()  # type: ignore[no-any-return]


def test_hooks_of_a_subclass_run_one_at_a_time(pair: Any) -> None:
    queue = Unique()
    record: list[str] = []

    def put() -> None:
        for item in ("a", "b", "a"):
            queue.put(item)

    def main() -> None:
        threads = [pair.start(put) for _ in range(2)]
        for thread in threads:
            thread.join()
        record.extend(queue.get() for _ in range(queue.qsize()))

    pair.run(main)
    assert record == ["b", "a"]


def test_a_hook_that_fails_fails_where_it_was_called(outcome: Any) -> None:
    class Picky(Queue[int]):
        def _put(self, item: int) -> None:
            if item < 0:
                raise ValueError("no such item")
            super()._put(item)

    queue = Picky(1)
    assert outcome(queue.put, -1) == (ValueError, "no such item")
    record: list[object] = []

    def main() -> None:
        queue.put(1)
        thread = Thread(target=lambda: record.append(outcome(queue.put, -2)))
        thread.start()
        yield_now()
        record.append(queue.get())
        thread.join()

    run_scheduler(main)
    # The one who waited for room is told what became of its item, not the one who made room.
    assert record == [1, (ValueError, "no such item")]
    assert not queue.mutex.locked()


def test_whoever_holds_the_mutex_keeps_the_others_out(pair: Any, until: Any) -> None:
    queue: Queue[str] = Queue()
    record: list[str] = []

    def put() -> None:
        queue.put("late")
        record.append("put")

    def main() -> None:
        with queue.mutex:
            thread = pair.start(put)
            until(lambda: len(queue.mutex._waiters) == 1)
            queue.queue.append("early")
            record.append("appended")
        thread.join()
        record.extend([queue.get(), queue.get()])

    pair.run(main)
    assert record == ["appended", "put", "early", "late"]


@pytest.mark.parametrize("operation", ["put", "get", "shutdown"])
def test_nobody_is_in_the_middle_of_an_operation_once_the_mutex_was_given_out(operation: str, until: Any) -> None:
    """Until somebody asks for it another lock keeps operations apart, for which one may be waiting just then."""
    queue: Queue[str] = Queue(2)
    queue.put("first")
    record: list[object] = []
    operate: Any = {"put": lambda: queue.put("second"), "get": queue.get, "shutdown": lambda: queue.shutdown(True)}
    before = queue._held
    with before:
        thread = Thread(target=lambda: record.append(operate[operation]()), kind="kernel")
        thread.start()
        mutex = queue._mutex
        mutex.acquire()
        queue._held = mutex  # As it is given out: while the other one is held.
    until(lambda: len(mutex._waiters) == 1)
    record.append([*queue.queue])
    mutex.release()
    thread.join()
    assert [queue.mutex, before.locked(), mutex.locked()] == [mutex, False, False]
    assert (record, [*queue.queue]) == {
        "put": ([["first"], None], ["first", "second"]),
        "get": ([["first"], "first"], []),
        "shutdown": ([["first"], None], []),
    }[operation]


def test_clearing_it_by_hand_makes_room(run_virtually: Any) -> None:
    """As programs do that hold the mutex; who waits is let in at the next get."""
    queue: Queue[str] = Queue(1)
    record: list[object] = []

    def main() -> None:
        queue.put("old")
        Thread(target=lambda: record.append(queue.put("new", timeout=10))).start()
        yield_now()
        with queue.mutex:
            queue.queue.clear()
        record.append(queue.get())

    run_virtually(main)
    assert record == ["new", None]


def test_a_put_of_a_simple_queue_may_happen_anywhere(kind: Kind) -> None:
    """Also in the middle of another operation on it, in a destructor or a signal handler."""
    queue: SimpleQueue[str] = SimpleQueue()

    class Dropped:
        def __del__(self) -> None:
            queue.put("from __del__")

    def main() -> list[str]:
        things = [Dropped()]
        thread = Thread(target=lambda: (queue.put("a"), things.clear(), queue.put("b")), kind=kind)
        thread.start()
        return [queue.get() for _ in range(3)]

    assert run_scheduler(main) == ["a", "from __del__", "b"]


def test_an_interrupted_putter_s_item_is_not_in(kind: Kind, until: Any) -> None:
    queue: Queue[str] = Queue(1)
    record: list[str] = []

    def put() -> None:
        try:
            queue.put("never")
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        queue.put("first")
        thread = Thread(target=put, kind=kind)
        thread.start()
        until(lambda: len(queue._putters) == 1)
        thread.interrupt()
        thread.join()
        record.append(queue.get())
        record.append(str(queue.empty()))

    run_scheduler(main)
    assert (record, queue.unfinished_tasks) == (["interrupted", "first", "True"], 1)


def test_they_take_a_type_and_give_their_names() -> None:
    assert (str(Queue[int]), str(SimpleQueue[int])) == ("greenthreads.Queue[int]", "greenthreads.SimpleQueue[int]")
    assert greenthreads.queue.Queue is Queue
    assert isinstance(Queue().mutex, greenthreads.Lock)
    assert issubclass(Empty, Exception)
    assert issubclass(Full, Exception)


def test_the_same_program_runs_on_the_standard_queue() -> None:
    """The contract is the standard module's: what the tests above take from it, it does itself."""

    def program(module: Any) -> list[object]:
        queue = module.Queue(2)
        got: list[object] = []

        def put() -> None:
            for number in range(20):
                queue.put(number)

        thread = threading.Thread(target=put)
        thread.start()
        for _ in range(20):
            got.append(queue.get())
            queue.task_done()
        thread.join()
        queue.join()
        return [*got, queue.empty(), queue.full(), queue.qsize(), queue.maxsize]

    assert program(greenthreads.queue) == program(standard)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the standard module has shutdown since Python 3.13")
def test_shut_down_is_the_standard_exception() -> None:
    assert greenthreads.ShutDown is standard.ShutDown


def test_a_stack_that_ends_in_the_switch_of_a_get_loses_neither_thread_nor_item() -> None:
    record: list[object] = []
    queue: Queue[int] = Queue()
    over = False

    def descend(number: int) -> None:
        if number:
            descend(number - 1)
        got.append(queue.get())
        descend(0)

    def overflow(number: int) -> None:
        with pytest.raises(RecursionError):
            descend(number)
        record.append("overflow")

    def put() -> None:
        while not over:
            if queue.empty():
                queue.put(next(numbers))
            sleep(1e-9)
        record.append("end")

    def main() -> None:
        nonlocal over
        Thread(target=put).start()
        for number in range(6):
            thread = Thread(target=overflow, args=(number,))
            thread.start()
            thread.join()
            assert not queue._getters
        over = True

    numbers = iter(range(10_000))
    got: list[int] = []
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        run_scheduler(main)
    finally:
        sys.setrecursionlimit(limit)
    while not queue.empty():
        got.append(queue.get())
    assert record == [*6 * ["overflow"], "end"]
    assert got == list(range(next(numbers)))
