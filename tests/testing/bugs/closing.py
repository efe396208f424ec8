"""The end of things: closed while in use, never given back, or gone on with."""

from __future__ import annotations

import queue
import threading
import time

from bugs import pair, pause, together


@pair("deadlock")
def connection_lost_on_an_error(repaired: bool) -> None:
    """A pool of one connection; the error of who finds it stale keeps it from coming back."""
    pool: queue.Queue[str] = queue.Queue()
    pool.put("connection")
    stale = threading.Event()

    def use() -> None:
        connection = pool.get()
        try:
            if stale.is_set():
                raise ConnectionError
        except ConnectionError:
            if not repaired:
                return
        pool.put(connection)

    together(use, use, stale.set)


@pair("exception", small=True)
def callback_after_close(repaired: bool) -> None:
    """A message is handled while its handler is taken away."""
    lock = threading.Lock()
    handlers = {"message": pause}

    def receive() -> None:
        with lock:
            known = "message" in handlers
            handler = handlers.get("message")
        if not known:
            return
        if repaired:
            assert handler is not None
            handler()
        else:
            with lock:
                handlers["message"]()

    def close() -> None:
        with lock:
            handlers.clear()

    together(receive, close)


@pair("assertion")
def daemon_that_goes_on(repaired: bool) -> None:
    """A daemon writes to a log that was closed: nobody has told it to stop, or waited until it has."""
    stop = threading.Event()
    is_open = True
    late = []

    def heartbeat() -> None:
        while not stop.is_set():
            pause()
            late.append(not is_open)
            time.sleep(1)

    daemon = threading.Thread(target=heartbeat, daemon=True)
    daemon.start()
    time.sleep(2)
    stop.set()
    if repaired:
        daemon.join()
    is_open = False
    pause()
    pause()
    assert not any(late)


@pair("assertion", small=True)
def written_while_it_closes(repaired: bool) -> None:
    """Looks whether it is open, and writes after it was closed."""
    lock = threading.Lock()
    is_open = True
    lost = []

    def write() -> None:
        if repaired:
            with lock:
                if is_open:
                    lost.append(not is_open)
            return
        with lock:
            still = is_open
        if still:
            with lock:
                lost.append(not is_open)

    def close() -> None:
        nonlocal is_open
        with lock:
            is_open = False

    together(write, close)
    assert not any(lost)


@pair("deadlock", small=True)
def stop_joins_under_the_lock(repaired: bool) -> None:
    """Stops a worker and joins it with the lock held that the worker needs to see that it is to stop."""
    lock = threading.Lock()
    stopped = False

    def work() -> None:
        with lock:
            if stopped:
                return
        with lock:
            pass

    worker = threading.Thread(target=work)
    worker.start()
    with lock:
        stopped = True
        if not repaired:
            worker.join()
    worker.join()


@pair("lock left held", small=True, check_locks=True)
def lock_left_by_a_timeout(repaired: bool) -> None:
    """Gives up waiting for the second lock, and forgets that it has the first."""
    a, b = threading.Lock(), threading.Lock()

    def one() -> None:
        with a:
            if b.acquire(blocking=False):
                b.release()

    def other() -> None:
        b.acquire()
        if a.acquire(blocking=False):
            a.release()
        elif not repaired:
            return
        b.release()

    together(one, other)


@pair("thread not joined", small=True, check_joined=True)
def helper_left_behind(repaired: bool) -> None:
    """Starts a helper if there is work, and joins it if there is work: there may be some only later."""
    work: queue.Queue[int] = queue.Queue()
    helper = threading.Thread(target=pause)

    def give() -> None:
        work.put(1)

    def supervise() -> None:
        helper.start()
        if repaired or not work.empty():
            helper.join()

    together(give, supervise)
