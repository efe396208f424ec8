"""Events, semaphores and barriers that say less than was heard."""

from __future__ import annotations

import threading
import time

from bugs import pair, pause, together


@pair("deadlock", small=True)
def event_pulsed(repaired: bool) -> None:
    """Sets and clears at once: who was not waiting yet never hears of it."""
    go = threading.Event()

    def signal() -> None:
        go.set()
        if not repaired:
            go.clear()

    together(go.wait, signal)


@pair("deadlock", small=True)
def event_cleared_before_the_wait(repaired: bool) -> None:
    """Makes sure that the event is clear, and wipes out the signal."""
    done = threading.Event()

    def wait() -> None:
        if not repaired:
            done.clear()
        done.wait()

    together(wait, done.set)


@pair("deadlock", small=True)
def event_cleared_after_the_work(repaired: bool) -> None:
    """Work that comes between the last look and the clearing is never done."""
    there_is_work = threading.Event()
    work = [1]
    there_is_work.set()
    done: list[int] = []

    def worker() -> None:
        while len(done) < 2:
            there_is_work.wait()
            if repaired:
                there_is_work.clear()
            while work:
                done.append(work.pop())
                pause()
            if not repaired:
                there_is_work.clear()

    def give() -> None:
        work.append(2)
        there_is_work.set()

    together(worker, give)


@pair("assertion")
def semaphore_released_too_often(repaired: bool) -> None:
    """Releases also where it did not acquire: later two are inside at once."""
    room = threading.Semaphore(1)
    inside, most = 0, 0

    def visit() -> None:
        nonlocal inside, most
        taken = room.acquire(blocking=False)
        try:
            if taken:
                inside += 1
                most = max(most, inside)
                pause()
                inside -= 1
        finally:
            if taken or not repaired:
                room.release()

    together(visit, visit, visit)
    assert most == 1


@pair("deadlock", small=True)
def permits_taken_one_by_one(repaired: bool) -> None:
    """Each needs two permits and takes the first: none are left for the second."""
    permits = threading.Semaphore(2)
    turn = threading.Lock()

    def use() -> None:
        if repaired:
            with turn:
                permits.acquire()
                permits.acquire()
        else:
            permits.acquire()
            permits.acquire()
        permits.release(2)

    together(use, use)


@pair("deadlock", small=True)
def permit_lost_on_the_way_out(repaired: bool) -> None:
    """Leaves early without giving the permit back, if another one has been there first."""
    room = threading.Semaphore(1)
    seen: list[int] = []

    def visit() -> None:
        room.acquire()
        if seen and not repaired:
            return
        seen.append(1)
        room.release()

    together(visit, visit)
    room.acquire()


@pair("exception")
def barrier_broken_by_a_timeout(repaired: bool) -> None:
    """Waits at a barrier for a second, which another one sleeps."""
    barrier = threading.Barrier(2)
    begin = threading.Event()

    def fast() -> None:
        begin.wait()
        barrier.wait(None if repaired else 1)

    def slow() -> None:
        begin.set()
        time.sleep(1)
        barrier.wait()

    together(fast, slow)


@pair("assertion", small=True)
def result_read_before_the_barrier(repaired: bool) -> None:
    """Reads what the other one writes on the wrong side of the barrier."""
    barrier = threading.Barrier(2)
    values = [0, 0]
    sums = []

    def add(mine: int) -> None:
        pause()
        values[mine] = 1
        if repaired:
            barrier.wait()
        total = sum(values)
        if not repaired:
            barrier.wait()
        sums.append(total)

    together(lambda: add(0), lambda: add(1))
    assert sums == [2, 2]
