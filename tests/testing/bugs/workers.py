"""Pools, futures and timers."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from bugs import pair, pause, together


@pair("exception", max_steps=2000)
def submitted_after_shutdown(repaired: bool) -> None:
    """A thread goes on submitting to a pool that its owner has shut down."""
    pool = ThreadPoolExecutor(1)
    closed = threading.Event()
    lock = threading.Lock()

    def submit() -> None:
        if repaired:
            with lock:
                if not closed.is_set():
                    pool.submit(pause)
        elif not closed.is_set():
            pool.submit(pause)

    def close() -> None:
        with lock:
            closed.set()
        pool.shutdown()

    together(submit, close)


@pair("deadlock", large=True, max_steps=2000)
def task_waits_for_a_task(repaired: bool) -> None:
    """Tasks that wait for others in the same pool, until all of its threads do."""
    pool = ThreadPoolExecutor(3 if repaired else 2)

    def outer() -> int:
        return pool.submit(int).result()

    futures = [pool.submit(outer) for _ in range(2)]
    assert [future.result() for future in futures] == [0, 0]
    pool.shutdown(wait=False)


@pair("deadlock", small=True)
def callback_of_a_finished_future(repaired: bool) -> None:
    """Adds a callback with the lock held that it takes: called at once if the future is done already."""
    lock = threading.Lock()
    future: Future[int] = Future()
    results = []

    def done(future: Future[int]) -> None:
        with lock:
            results.append(future.result())

    def subscribe() -> None:
        if repaired:
            future.add_done_callback(done)
        else:
            with lock:
                future.add_done_callback(done)

    together(subscribe, lambda: future.set_result(1))


@pair("exception", small=True)
def future_set_twice(repaired: bool) -> None:
    """Two finish the same future, each after a look that it is not done."""
    future: Future[int] = Future()
    lock = threading.Lock()

    def finish() -> None:
        if repaired:
            lock.acquire()
        if not future.done():
            future.set_result(1)
        if repaired:
            lock.release()

    together(finish, finish)


@pair("exception", small=True)
def timer_cancelled_too_late(repaired: bool) -> None:
    """Cancels a timer and closes what it uses; the timer may be running already."""
    lock = threading.Lock()
    open_files = [1]

    def flush() -> None:
        with lock:
            pass
        open_files[0] += 1

    timer = threading.Timer(1, flush)
    timer.start()
    time.sleep(1)
    timer.cancel()
    if repaired:
        timer.join()
    open_files.clear()
    timer.join()


@pair("exception", small=True)
def joined_for_a_while(repaired: bool) -> None:
    """Takes the end of a timed join for the end of the thread."""
    results: list[int] = []

    def work() -> None:
        time.sleep(1)
        results.append(1)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(timeout=1)
    if repaired:
        while worker.is_alive():
            worker.join(timeout=1)
    results[0] += 1
    worker.join()


@pair("exception")
def started_twice(repaired: bool) -> None:
    """Two start the helper on first use."""
    helper = threading.Thread(target=pause)
    started = threading.Event()
    lock = threading.Lock()

    def use() -> None:
        if repaired:
            lock.acquire()
        if not started.is_set():
            helper.start()
            started.set()
        if repaired:
            lock.release()

    together(use, use)
    helper.join()


@pair("deadlock")
def worker_that_dies(repaired: bool) -> None:
    """A worker drops a bad job and ends; who waits for all jobs waits for ever, if the bad one came first."""
    jobs: queue.Queue[int] = queue.Queue()

    def work() -> None:
        for _ in range(2):
            job = jobs.get()
            if not job and not repaired:
                return
            jobs.task_done()

    worker = threading.Thread(target=work)
    worker.start()
    together(lambda: jobs.put(0), lambda: jobs.put(1))
    jobs.join()
    worker.join()
