"""An interrupt wherever it can strike, not at points that somebody thought of: in every order in which threads can run.

Each scenario has a victim, others that use the same primitive, and a thread that does nothing but interrupt the victim.
Everybody must come to an end whatever the order, and the primitive is used once more after that. Run
- under the harness, with every schedule of its choice points;
- by the ordinary scheduler, where threads really park and are handed things, in every order of their turns;
- by the ordinary scheduler with slices of a single step, in orders drawn at random: there the program's own code may be
  left at any iteration and call, too.

Primitives with a mistake of the kind that this is about show that it is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenthreads import (
    Barrier,
    BrokenBarrierError,
    Condition,
    Deadlock,
    Event,
    Lock,
    Policy,
    PriorityQueue,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
    Steps,
    Thread,
    ThreadGroup,
    ThreadInterrupted,
    current_thread,
    run_scheduler,
    timeout,
    yield_now,
)
from greenthreads.testing import Exploration, explore
from scheduler.task import Task

# The most orders of turns that there are of any scenario, and the most schedules of choice points that are looked at.
MOST_ORDERS, MOST_SCHEDULES = 3_000, 3_000
# How many are drawn at random.
DRAWS = 40


class Scenario:
    """What threads do with one primitive. `others` run beside the victim."""

    others: tuple[Callable[[], object], ...] = ()

    def victim(self) -> None:
        """May be interrupted."""

    def left(self) -> None:
        """What the victim does that was interrupted."""

    def check(self, exact: bool) -> None:
        """All have ended. `exact`: the victim was interrupted where it waits or yields, not within its own code."""

    def run(self, exact: bool = True) -> None:
        started: list[Thread] = []

        def victim() -> None:
            try:
                started.append(Thread(target=current_thread().interrupt, name="interrupter"))
                started[0].start()
                self.victim()
            except ThreadInterrupted:
                self.left()

        threads = [Thread(target=victim, name="victim"), *(Thread(target=other) for other in self.others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for thread in started:
            thread.join()
        self.check(exact)


class Locking(Scenario):
    """A lock is free again, and never two threads' at once."""

    make: Callable[[], Any] = Lock

    def __init__(self) -> None:
        self.lock = self.make()
        self.inside = 0
        self.others = (self.use, self.use)

    def use(self) -> None:
        with self.lock:
            self.inside += 1
            assert self.inside == 1
            try:
                yield_now()
            finally:
                self.inside -= 1

    def victim(self) -> None:
        self.lock.acquire()
        try:
            self.lock.release()
        finally:
            self.use()

    def check(self, exact: bool) -> None:
        assert not exact or self.lock.acquire(False)


class Reentering(Locking):
    """An RLock, taken twice."""

    make = RLock

    def victim(self) -> None:
        with self.lock, self.lock:
            yield_now()
        self.use()


class Counting(Locking):
    """A semaphore of one."""

    make = staticmethod(lambda: Semaphore(1))

    def check(self, exact: bool) -> None:
        assert self.lock._value == 1 or not exact


class Waiting(Scenario):
    """Of two who wait for an item under a condition, each that is not interrupted gets one."""

    def __init__(self) -> None:
        self.condition = Condition()
        self.items: list[int] = []
        self.taken: list[int] = []
        self.others = (self.take, self.give)

    def take(self) -> None:
        with self.condition:
            while not self.items:
                self.condition.wait()
            self.taken.append(self.items.pop())

    victim = take

    def give(self) -> None:
        for number in (1, 2):
            with self.condition:
                self.items.append(number)
                self.condition.notify()

    def check(self, exact: bool) -> None:
        assert sorted(self.items + self.taken) == [1, 2] or not exact
        assert len(self.taken) >= 1
        with self.condition:
            assert not self.condition._waiters


class WaitingByAPlainLock(Waiting):
    """A condition over a lock of the program's own, which takes another way."""

    def __init__(self) -> None:
        super().__init__()

        class Own:
            def __init__(self) -> None:
                lock = Lock()
                self.acquire, self.release, self.locked = lock.acquire, lock.release, lock.locked
                self.__class__.__enter__ = lambda me: me.acquire()  # type: ignore[attr-defined]
                self.__class__.__exit__ = lambda me, *_: me.release()  # type: ignore[attr-defined]

        self.condition = Condition(Own())


class Getting(Scenario):
    """Every item of a queue is got once, or still there."""

    make: Callable[[], Any] = Queue

    def __init__(self) -> None:
        self.queue = self.make()
        self.got: list[int] = []
        self.others = (self.get, self.put)

    def get(self) -> None:
        self.got.append(self.queue.get())

    victim = get

    def put(self) -> None:
        self.queue.put(1)
        self.queue.put(2)

    def check(self, exact: bool) -> None:
        left = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        assert sorted(left + self.got) == [1, 2] or not exact
        # Nobody stands there any more to whom an item would be given.
        self.queue.put(3)
        assert self.queue.get_nowait() == 3


class GettingSimply(Getting):
    """The same of a SimpleQueue."""

    make = SimpleQueue


class Putting(Scenario):
    """What an interrupted `put` was to bring is not there; what another brought is, once."""

    def __init__(self) -> None:
        self.queue: Queue[int] = Queue(1)
        self.queue.put(0)
        self.brought = [0]
        self.got: list[int] = []
        self.others = (self.put, self.get)

    def put(self) -> None:
        self.queue.put(1)
        self.brought.append(1)

    victim = put

    def get(self) -> None:
        self.got += [self.queue.get(), self.queue.get()]

    def check(self, exact: bool) -> None:
        left = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        assert sorted(left + self.got) == sorted(self.brought) or not exact
        self.queue.put(3)
        assert self.queue.get_nowait() == 3


class Signalled(Scenario):
    """An event wakes all who wait."""

    def __init__(self) -> None:
        self.event = Event()
        self.others = (self.event.wait, self.event.set)

    def victim(self) -> None:
        self.event.wait()
        self.event.wait()

    def check(self, exact: bool) -> None:
        assert self.event.is_set()
        assert not self.event._waiters


class Meeting(Scenario):
    """An interrupted thread breaks the barrier for those who wait with it; reset, the barrier serves again."""

    def __init__(self) -> None:
        self.barrier = Barrier(2)
        self.ends: list[str] = []
        self.others = (self.meet,)

    def meet(self) -> None:
        try:
            self.barrier.wait()
            self.ends.append("met")
        except BrokenBarrierError:
            self.ends.append("broken")

    victim = meet

    def left(self) -> None:
        self.ends.append("interrupted")
        # It may never have come; then nobody would, for the other one.
        self.barrier.abort()

    def check(self, exact: bool) -> None:
        # Who has met already, and not left `wait` yet, may be interrupted there.
        ends = sorted(self.ends)
        assert ends in (["met", "met"], ["broken", "interrupted"], ["interrupted", "met"]) or not exact
        self.barrier.reset()
        thread = Thread(target=self.barrier.wait)
        thread.start()
        self.barrier.wait()
        thread.join()


class Reading(Scenario):
    """A lock for readers and writers: each writer is alone, and in the end it is free."""

    def __init__(self) -> None:
        self.lock = RWLock()
        self.writers = 0
        self.others = (self.write, self.read)

    def read(self) -> None:
        with self.lock.read():
            assert self.writers == 0
            yield_now()

    def write(self) -> None:
        with self.lock.write():
            self.writers += 1
            assert self.writers == 1
            try:
                yield_now()
            finally:
                self.writers -= 1

    victim = read

    def check(self, exact: bool) -> None:
        assert not exact or self.lock.acquire_write(False)


class Writing(Reading):
    """The same, and a writer is interrupted."""

    victim = Reading.write


class Grouping(Scenario):
    """Who is interrupted in a group takes its threads along, and leaves when they have ended."""

    def __init__(self) -> None:
        self.stop = Event()
        self.threads: list[Thread] = []
        self.others = (self.stop.set,)

    def victim(self) -> None:
        try:
            with ThreadGroup() as group:
                self.threads += [group.start(self.stop.wait), group.start(yield_now)]
                self.stop.wait()
        except ThreadInterrupted:
            raise
        except Exception as failures:
            if [type(each) for each in failures.exceptions] != [ThreadInterrupted]:  # type: ignore[attr-defined]
                raise
        finally:
            assert not any(thread.is_alive() for thread in self.threads)

    def check(self, exact: bool) -> None:
        assert not any(thread.is_alive() for thread in self.threads)


class Limited(Scenario):
    """A wait with a limit for the whole block: the limit does not outlive it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.others = (self.use,)
        self.after: list[str] = []

    def use(self) -> None:
        with self.lock:
            yield_now()

    def victim(self) -> None:
        try:
            with timeout(1000):
                self.use()
        finally:
            try:
                yield_now()
            except ThreadInterrupted:
                pass
            self.after.append("went on")

    def check(self, exact: bool) -> None:
        assert self.after == ["went on"] or not exact
        assert not exact or self.lock.acquire(False)


SCENARIOS = (
    Locking, Reentering, Counting, Waiting, WaitingByAPlainLock, Getting, GettingSimply, Putting, Signalled, Meeting,
    Reading, Writing, Grouping, Limited,
)  # fmt: skip


# ---- With a mistake --------------------------------------------------------------------------------------------------


class _Forgetful:
    """A lock that hands over to who waits, and goes on counting one who was interrupted while it did."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting = 0
        self._bell = Semaphore(0)

    def acquire(self, blocking: bool = True) -> bool:
        if not self._taken:
            self._taken = True
            return True
        if blocking:
            self._waiting += 1
            self._bell.acquire()
            self._waiting -= 1
        return blocking

    def release(self) -> None:
        if self._waiting:
            self._bell.release()
        else:
            self._taken = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


class ForgettingALock(Locking):
    """Its waiter is gone, and the lock is handed to it."""

    make = _Forgetful


class _Keeping:
    """A lock whose `acquire` may be left by an interrupt when it has been taken."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._taken = False

    def acquire(self, blocking: bool = True) -> bool:
        with self._condition:
            while self._taken and blocking:
                self._condition.wait()
            got, self._taken = not self._taken, True
        yield_now()
        return got

    def release(self) -> None:
        with self._condition:
            self._taken = False
            self._condition.notify()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_exc: object) -> None:
        self.release()


class KeepingALock(Locking):
    """Nobody has it, and it is not free."""

    make = _Keeping


MISTAKEN = ForgettingALock, KeepingALock


# ---- In every order --------------------------------------------------------------------------------------------------


class Chosen(Policy):
    """Takes of those that are ready the one that it is told to, and notes how many there were."""

    def __init__(self, choose: Callable[[int, int], int]) -> None:
        self._choose = choose
        self._ready: list[Task] = []
        self.taken: list[tuple[int, int]] = []

    def add(self, task: Task) -> None:
        self._ready.append(task)

    def take(self) -> Task:
        count = len(self._ready)
        place = self._choose(len(self.taken), count)
        self.taken.append((place, count))
        return self._ready.pop(place)

    def __len__(self) -> int:
        return len(self._ready)


def every_order() -> Iterator[Policy]:
    """Policies that together take threads in every order that there is: depth first."""
    told: list[int] = []
    while True:
        policy = Chosen(lambda number, count: told[number] if number < len(told) else 0)  # noqa: B023
        yield policy
        taken = policy.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        told = [place for place, _count in taken[:-1]] + [taken[-1][0] + 1]


def drawn(seed: int) -> Policy:
    """A policy that takes any."""
    draw = random.Random(seed).randrange
    return Chosen(lambda _number, count: draw(count))


def explored(scenario: type[Scenario], most: int) -> Exploration:
    return explore(
        lambda: scenario().run(),
        strategy="dfs",
        preemption_bound=1,
        memory=False,
        max_executions=most,
        max_seconds=None,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_under_the_harness(scenario: type[Scenario]) -> None:
    found = explored(scenario, MOST_SCHEDULES)
    assert found.failure is None, found.failure.report()
    assert "every schedule" in found.coverage


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_in_every_order_of_turns(scenario: type[Scenario]) -> None:
    count = 0
    for policy in every_order():
        run_scheduler(scenario().run, policy=policy)
        count += 1
    assert 10 < count < MOST_ORDERS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_at_any_step(scenario: type[Scenario]) -> None:
    for seed in range(DRAWS):
        run_scheduler(scenario().run, False, policy=drawn(seed), timeslice=Steps(1))


@pytest.mark.parametrize("scenario", MISTAKEN, ids=lambda each: each.__name__)
def test_a_mistake_is_found_under_the_harness(scenario: type[Scenario]) -> None:
    assert explored(scenario, 10 * MOST_SCHEDULES).failure is not None


@pytest.mark.parametrize("scenario", MISTAKEN, ids=lambda each: each.__name__)
def test_a_mistake_is_found_in_some_order_of_turns(scenario: type[Scenario]) -> None:
    with pytest.raises((AssertionError, Deadlock)):
        for policy in every_order():
            run_scheduler(scenario().run, policy=policy)


# ---- Where an end of a slice may not come ----------------------------------------------------------------------------


def test_a_slice_does_not_end_in_a_queue_that_is_all_that_a_thread_does() -> None:
    """Beyond the queue's frames there are none of the program's then: its `put` is the thread's whole target."""
    beside = [0]
    found: list[int] = []

    class Compared:
        def __lt__(self, other: Compared) -> bool:
            before = beside[0]
            for _ in range(10):
                pass
            found.append(beside[0] - before)
            return True

    def main() -> None:
        queue: PriorityQueue[Compared] = PriorityQueue()
        threads = [Thread(target=queue.put, args=(Compared(),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            beside[0] += 1

    run_scheduler(main, timeslice=Steps(1))
    assert set(found) == {0}
