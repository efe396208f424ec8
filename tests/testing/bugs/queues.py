"""Queues: looked at, then used; ended, or waited for, in the wrong way."""

from __future__ import annotations

import queue
import threading

from bugs import pair, together


@pair("exception", small=True)
def empty_then_get(repaired: bool) -> None:
    """It was not empty when it looked."""
    items: queue.Queue[int] = queue.Queue()
    items.put(1)

    def take() -> None:
        if repaired:
            try:
                items.get_nowait()
            except queue.Empty:
                pass
        elif not items.empty():
            items.get_nowait()

    together(take, take)


@pair("exception", small=True)
def full_then_put(repaired: bool) -> None:
    """There was room when it looked."""
    items: queue.Queue[int] = queue.Queue(1)

    def give() -> None:
        if repaired:
            try:
                items.put_nowait(1)
            except queue.Full:
                pass
        elif not items.full():
            items.put_nowait(1)

    together(give, give)


@pair("deadlock", small=True)
def while_there_are_items(repaired: bool) -> None:
    """Two drain a queue while its size is not zero, and wait for the last item together."""
    items: queue.Queue[int] = queue.Queue()
    for item in range(2):
        items.put(item)

    def drain() -> None:
        if repaired:
            try:
                while True:
                    items.get(block=False)
            except queue.Empty:
                return
        while items.qsize():
            items.get()

    together(drain, drain)


@pair("deadlock")
def one_sentinel_for_two(repaired: bool) -> None:
    """The first consumer to see the end keeps it."""
    items: queue.Queue[int | None] = queue.Queue()

    def consume() -> None:
        while items.get() is not None:
            pass
        if repaired:
            items.put(None)

    def produce() -> None:
        items.put(1)
        items.put(None)

    together(consume, consume, produce)


@pair("assertion", small=True)
def done_before_it_is(repaired: bool) -> None:
    """Says `task_done` first, and then does the task."""
    items: queue.Queue[int] = queue.Queue()
    results: list[int] = []
    lock = threading.Lock()

    def work() -> None:
        item = items.get()
        if not repaired:
            items.task_done()
        with lock:
            results.append(item)
        if repaired:
            items.task_done()

    worker = threading.Thread(target=work)
    worker.start()
    items.put(1)
    items.join()
    assert results == [1]
    worker.join()


@pair("deadlock", small=True)
def request_and_reply(repaired: bool) -> None:
    """Two that fill each other's queue before they empty their own."""
    requests: queue.Queue[int] = queue.Queue(1)
    replies: queue.Queue[int] = queue.Queue(2 if repaired else 1)

    def ask() -> None:
        for number in range(4):
            requests.put(number)
        for _ in range(4):
            replies.get()

    def answer() -> None:
        for _ in range(4):
            number = requests.get()
            replies.put(number)

    together(ask, answer)


@pair("assertion")
def stopped_with_items_left(repaired: bool) -> None:
    """A consumer that looks at the stop flag first leaves what came before it."""
    items: queue.Queue[int] = queue.Queue()
    stop = threading.Event()
    got: list[int] = []

    def take() -> None:
        try:
            got.append(items.get_nowait())
        except queue.Empty:
            pass

    def consume() -> None:
        while not stop.is_set():
            take()
        if repaired:
            take()

    def produce() -> None:
        items.put(1)
        stop.set()

    together(consume, produce)
    assert got == [1]


@pair("assertion")
def last_of_a_bounded_buffer(repaired: bool) -> None:
    """A buffer on two semaphores, without a lock around what they let several into."""
    room, filled = threading.Semaphore(2), threading.Semaphore(0)
    lock = threading.Lock()
    slots = [0, 0]
    end = 0

    def put(item: int) -> None:
        nonlocal end
        room.acquire()
        if repaired:
            with lock:
                slots[end] = item
                end += 1
        else:
            at = end
            slots[at] = item
            filled.release()
            end = at + 1
            return
        filled.release()

    together(lambda: put(1), lambda: put(2))
    assert sorted(slots) == [1, 2]


@pair("deadlock")
def put_after_the_consumer_left(repaired: bool) -> None:
    """A bounded queue whose consumer leaves at the first sentinel, with a producer still at it."""
    items: queue.Queue[int | None] = queue.Queue(1)

    def consume() -> None:
        ends = 0
        while ends < (2 if repaired else 1):
            if items.get() is None:
                ends += 1

    def produce() -> None:
        items.put(1)
        items.put(None)

    together(consume, produce, produce)
