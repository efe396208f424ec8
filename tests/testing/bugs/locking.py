"""Locks: taken in different orders, too late, twice, not long enough, or not at all."""

from __future__ import annotations

import threading

from bugs import pair, pause, together


@pair("deadlock", small=True)
def lock_order_of_two(repaired: bool) -> None:
    """Two locks, taken in two orders."""
    a, b = threading.Lock(), threading.Lock()

    def one() -> None:
        with a, b:
            pass

    def other() -> None:
        first, second = (a, b) if repaired else (b, a)
        with first, second:
            pass

    together(one, other)


@pair("deadlock")
def lock_order_of_three(repaired: bool) -> None:
    """A ring of three, of which no two take their locks in opposite orders."""
    locks = [threading.Lock() for _ in range(3)]

    def take(first: int, second: int) -> None:
        if repaired:
            first, second = sorted((first, second))
        with locks[first], locks[second]:
            pass

    together(lambda: take(0, 1), lambda: take(1, 2), lambda: take(2, 0))


@pair("deadlock")
def dining_philosophers(repaired: bool) -> None:
    """Each takes the fork to the left, then the one to the right."""
    forks = [threading.RLock() for _ in range(3)]

    def dine(seat: int) -> None:
        left, right = forks[seat], forks[(seat + 1) % 3]
        if repaired and seat == 2:
            left, right = right, left
        with left:
            with right:
                pause()

    together(*(lambda seat=seat: dine(seat) for seat in range(3)))  # type: ignore[misc]


@pair("deadlock", small=True)
def bank_transfer(repaired: bool) -> None:
    """Locks the account that pays, then the one that is paid: two transfers cross."""
    accounts = [[100, threading.Lock()], [100, threading.Lock()]]

    def transfer(source: int, target: int) -> None:
        first, second = sorted((source, target)) if repaired else (source, target)
        with accounts[first][1], accounts[second][1]:  # type: ignore[attr-defined]
            accounts[source][0] -= 10  # type: ignore[operator]
            accounts[target][0] += 10  # type: ignore[operator]

    together(lambda: transfer(0, 1), lambda: transfer(1, 0))
    assert accounts[0][0] == accounts[1][0] == 100


@pair("assertion", small=True)
def lock_dropped_between_read_and_write(repaired: bool) -> None:
    """Reads under the lock, writes under the lock, and lets go in between."""
    lock = threading.Lock()
    balance = 0

    def deposit() -> None:
        nonlocal balance
        if repaired:
            with lock:
                balance += 1
            return
        with lock:
            value = balance
        with lock:
            balance = value + 1

    together(deposit, deposit)
    assert balance == 2


@pair("assertion", small=True)
def two_locks_for_one_thing(repaired: bool) -> None:
    """Each side guards the counter, with a lock of its own."""
    one, other = threading.Lock(), threading.Lock()
    counter = 0

    def increment(lock: threading.Lock) -> None:
        nonlocal counter
        with lock:
            value = counter
            pause()
            counter = value + 1

    together(lambda: increment(one), lambda: increment(one if repaired else other))
    assert counter == 2


@pair("deadlock", small=True)
def callback_under_a_lock(repaired: bool) -> None:
    """Calls a listener with the lock held, and the listener takes it, if there is one yet."""
    lock = threading.RLock() if repaired else threading.Lock()
    listeners: list[object] = []

    def listener() -> None:
        with lock:
            pass

    def subscribe() -> None:
        with lock:
            listeners.append(listener)

    def fire() -> None:
        with lock:
            for each in listeners:
                each()  # type: ignore[operator]

    together(subscribe, fire)


@pair("exception", small=True)
def released_without_having_it(repaired: bool) -> None:
    """Tries for the lock, and releases it in `finally` whether it got it or not."""
    lock = threading.Lock()

    def attempt() -> None:
        taken = lock.acquire(blocking=False)
        try:
            pause()
        finally:
            if taken or not repaired:
                lock.release()

    together(attempt, attempt)


@pair("deadlock", small=True)
def lock_kept_on_an_error(repaired: bool) -> None:
    """An error between acquire and release, which only the second one meets."""
    lock = threading.Lock()
    names: set[str] = set()

    def register(name: str) -> None:
        try:
            if repaired:
                with lock:
                    enter(name)
            else:
                lock.acquire()
                enter(name)
                lock.release()
        except ValueError:
            pass

    def enter(name: str) -> None:
        if name in names:
            raise ValueError(name)
        names.add(name)

    together(lambda: register("a"), lambda: register("a"))
    with lock:
        assert names == {"a"}


@pair("deadlock", small=True)
def readers_that_want_to_write(repaired: bool) -> None:
    """A reader becomes a writer once it is alone, and two of them wait for each other to leave."""
    condition = threading.Condition()
    readers = 0

    def read_then_write() -> None:
        nonlocal readers
        with condition:
            readers += 1
        with condition:
            if repaired:
                readers -= 1
                condition.notify_all()
                condition.wait_for(lambda: readers == 0)
            else:
                condition.wait_for(lambda: readers == 1)
                readers -= 1
                condition.notify_all()

    together(read_then_write, read_then_write)


@pair("assertion", small=True)
def rlock_for_exclusion_by_one_thread(repaired: bool) -> None:
    """A task that runs in the same thread walks through the RLock that was to keep it out."""
    lock = threading.RLock()
    pending: list[int] = []
    torn = []
    halves = [0, 0]

    def poll() -> None:
        if pending:
            pending.pop()
            if repaired and lock._is_owned():  # type: ignore[attr-defined]
                return
            with lock:
                torn.append(halves[0] != halves[1])

    def write() -> None:
        with lock:
            halves[0] = 1
            pause()
            poll()
            halves[1] = 1

    together(write, lambda: pending.append(1))
    assert not any(torn)
