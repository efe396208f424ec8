"""The stress: threads of all sorts use every primitive at once, with random timeouts and interrupts.

    python tests/soak/test_stress.py [--seed N] [--seconds S]     or     pytest -m soak tests/soak

Four kernel threads, and four more that run a scheduler with six user threads each. Each thread does one random thing
after the other. Then all stop, and the books must balance: whoever waits does so with reason, every item that was put
was got once or is still there, every lock is open, every permit back. What must hold at each moment is checked on the
spot. The seed chooses what each thread does; how the system interleaves them it does not.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import (
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Empty,
    Event,
    Full,
    LifoQueue,
    Lock,
    Once,
    PriorityQueue,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
    Thread,
    ThreadGroup,
    local,
    run_scheduler,
    timeout,
    yield_now,
)
from scheduler import current_task
from scheduler.kernel import KernelTask
from scheduler.task import GONE

SCHEDULERS, USER_THREADS, KERNEL_THREADS = 4, 6, 4


class Interrupted(Exception):
    """What the stress interrupts with."""


class World:
    """All that the threads share, and the books that are kept on it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.stop = False
        self.errors: list[str] = []
        self.done: Counter[str] = Counter()
        self.actors: list[Actor] = []
        self.lock, self.rlock, self.rwlock = Lock(), RLock(), RWLock()
        self.holders: Counter[str] = Counter()
        self.semaphore, self.bounded = Semaphore(3), BoundedSemaphore(2)
        self.event, self.barrier, self.once = Event(), Barrier(3), Once()
        self.condition = Condition()
        self.tokens, self.tokens_made, self.tokens_taken = 0, 0, 0
        self.queues: dict[str, Any] = {
            "unbounded": Queue(), "bounded": Queue(3), "lifo": LifoQueue(3), "priority": PriorityQueue(4),
            "simple": SimpleQueue(),
        }  # fmt: skip
        self.sent: dict[str, list[Any]] = {name: [] for name in self.queues}
        self.got: dict[str, list[Any]] = {name: [] for name in self.queues}
        self.mine = local()

    def check(self, holds: object, what: str) -> None:
        if not holds:
            self.errors.append(what)


class Actor:
    """One thread, and what it may do."""

    def __init__(self, world: World, name: str, is_user: bool) -> None:
        self.world = world
        self.name = name
        self.is_user = is_user
        self.chance = random.Random(f"{world.seed} {name}")
        self.numbers = 0
        self.doing = "nothing"
        self.task: Any = None
        self.ended = False

    def run(self) -> None:
        """Do one thing after the other until told to stop."""
        world = self.world
        self.task = current_task()
        world.mine.name = self.name
        things = [getattr(self, name) for name in sorted(dir(type(self))) if name.startswith("do_")]
        try:
            while not world.stop:
                thing = self.chance.choice(things)
                self.doing = thing.__name__
                self.attempt(thing)
                world.check(world.mine.name == self.name, f"{self.name} finds another's local value")
        except BaseException:
            world.errors.append(f"{self.name} in {self.doing}:\n{traceback.format_exc()}")
        self.ended = True

    def attempt(self, thing: Callable[[], None]) -> None:
        try:
            if self.is_user and self.chance.random() < 0.1:
                # Only a user thread: a kernel thread's limit may come between two lines of the books.
                with timeout(self.chance.random() * 0.003):
                    thing()
            else:
                thing()
            self.world.done[self.doing] += 1
        except Interrupted:
            self.world.done["interrupted"] += 1
        except TimeoutError:
            self.world.done["timed out"] += 1

    def patience(self) -> float | None:
        """How long to wait: not at all, a little, or as long as it takes."""
        return self.chance.choice([0, 0.0001, 0.001, 0.01, None])

    def pause(self) -> None:
        if self.chance.random() < 0.3:
            yield_now()

    def inside(self, what: str, most: int) -> None:
        """Be where only so many may be."""
        holders = self.world.holders
        with counting:
            holders[what] += 1
            now = holders[what]
        try:
            self.world.check(now <= most, f"{now} threads are inside {what}")
            self.pause()
        finally:
            with counting:
                holders[what] -= 1

    def do_lock(self) -> None:
        patience = self.patience()
        if self.world.lock.acquire(timeout=-1 if patience is None else patience):
            try:
                self.inside("Lock", 1)
            finally:
                self.world.lock.release()

    def do_rlock(self) -> None:
        with self.world.rlock:
            with self.world.rlock:
                self.inside("RLock", 1)
            self.pause()

    def do_semaphore(self) -> None:
        if self.world.semaphore.acquire(timeout=self.patience()):
            try:
                self.inside("Semaphore", 3)
            finally:
                self.world.semaphore.release()

    def do_bounded_semaphore(self) -> None:
        with self.world.bounded:
            self.inside("BoundedSemaphore", 2)

    def do_read(self) -> None:
        with self.world.rwlock.read():
            self.world.check(not self.world.holders["writing"], "somebody writes while another reads")
            self.inside("reading", 1000)

    def do_write(self) -> None:
        with self.world.rwlock.write():
            self.world.check(not self.world.holders["reading"], "somebody reads while another writes")
            self.inside("writing", 1)

    def do_wait_for_event(self) -> None:
        self.world.event.wait(self.patience())

    def do_pulse_event(self) -> None:
        self.world.event.set()
        self.pause()
        self.world.event.clear()

    def do_make_token(self) -> None:
        with self.world.condition:
            self.world.tokens += 1
            self.world.tokens_made += 1
            self.world.condition.notify()

    def do_take_token(self) -> None:
        world = self.world
        with world.condition:
            if world.condition.wait_for(lambda: world.tokens or world.stop, self.patience()) and world.tokens:
                world.tokens -= 1
                world.tokens_taken += 1

    def do_meet(self) -> None:
        try:
            self.world.barrier.wait(self.chance.choice([0.001, 0.01]))
        except BrokenBarrierError:
            if not self.world.stop:
                self.world.barrier.reset()

    def do_put(self) -> None:
        name = self.chance.choice(list(self.world.queues))
        self.numbers += 1
        item = (self.name, self.numbers)
        try:
            self.world.queues[name].put(item, timeout=self.patience())
        except Full:
            return
        self.world.sent[name].append(item)

    def do_get(self) -> None:
        name = self.chance.choice(list(self.world.queues))
        queue = self.world.queues[name]
        try:
            item = queue.get(timeout=self.patience())
        except Empty:
            return
        if item is not SENTINEL:
            self.world.got[name].append(item)
        if name != "simple":
            queue.task_done()

    def do_start_and_join(self) -> None:
        record: list[int] = []
        thread = Thread(target=record.append, args=(1,), kind="user" if self.is_user else "kernel")
        thread.start()
        thread.join()
        self.world.check(record == [1], "a thread was joined that has not run")

    def do_group(self) -> None:
        if not self.is_user:
            return
        try:
            with ThreadGroup() as group:
                for _ in range(3):
                    group.start(yield_now)
        except Exception as error:
            failures = getattr(error, "exceptions", [error])
            self.world.check({type(each) for each in failures} <= {Interrupted}, f"a group failed: {failures}")

    def do_once(self) -> None:
        self.world.check(self.world.once.call(lambda: self.pause() or "once") == "once", "Once has another result")


class _Sentinel(tuple[str, int]):
    """Put at the end for each thread that still waits to get. Sorts like an item."""


SENTINEL = _Sentinel(("", 0))
# For the books alone: a raw lock, which is held for a few bytecodes and never across a switch.
counting = threading.Lock()


def interrupt(actor: Actor) -> None:
    """Interrupt a user thread anywhere, a kernel thread while it waits: elsewhere it would come between two lines."""
    task = actor.task
    if isinstance(task, KernelTask):
        waiters = task.waiters
        if waiters is not None and waiters.pop(task, GONE) is not GONE:
            task.pending = Interrupted()
            task.unpark()
    elif task is not None:
        task.interrupt(Interrupted())


def cast(world: World) -> list[threading.Thread]:
    """Start all the threads."""

    def scheduler(number: int) -> None:
        for each in range(USER_THREADS):
            actor = Actor(world, f"user {number}.{each}", is_user=True)
            world.actors.append(actor)
            Thread(target=actor.run).start()

    kernels = [threading.Thread(target=run_scheduler, args=(scheduler, number)) for number in range(SCHEDULERS)]
    for number in range(KERNEL_THREADS):
        actor = Actor(world, f"kernel {number}", is_user=False)
        world.actors.append(actor)
        kernels.append(threading.Thread(target=actor.run))
    for kernel in kernels:
        kernel.start()
    return kernels


def bring_to_an_end(world: World, kernels: list[threading.Thread]) -> None:
    """Let every thread finish what it is doing; give those that wait with reason what they wait for, and no more."""
    world.stop = True
    end = time.monotonic() + 120
    while any(kernel.is_alive() for kernel in kernels) and time.monotonic() < end:
        for name, queue in world.queues.items():
            getters, putters = len(queue._getters), len(getattr(queue, "_putters", ()))
            if getters and not queue.qsize():
                for _ in range(getters):
                    queue.put(SENTINEL)
            elif putters and queue.full():
                item = queue.get()
                if item is not SENTINEL:
                    world.got[name].append(item)
                queue.task_done()
        with world.condition:
            world.condition.notify_all()
        world.event.set()
        world.barrier.abort()
        time.sleep(0.01)
    for actor in world.actors:
        world.check(actor.ended, f"{actor.name} has not ended: it hangs in {actor.doing}")
    for kernel in kernels:
        kernel.join(0.1)


def balance(world: World) -> None:
    """What must hold when all have ended."""
    check = world.check
    check(not world.lock.locked() and not world.lock._waiters, "the Lock is held")
    check(not world.rlock.locked() and not world.rlock._waiters, "the RLock is held")
    check(world.rwlock.acquire_write(False), "the RWLock is held")
    check((world.semaphore._value, len(world.semaphore._waiters)) == (3, 0), f"permits: {world.semaphore}")
    check((world.bounded._value, len(world.bounded._waiters)) == (2, 0), f"permits: {world.bounded}")
    check(not world.event._waiters and not world.condition._waiters, "somebody waits still")
    check(world.tokens_made == world.tokens_taken + world.tokens, "tokens were lost")
    for name, queue in world.queues.items():
        left = [item for item in (queue.get() for _ in range(queue.qsize())) if item is not SENTINEL]
        came = Counter(world.got[name]) + Counter(left)
        check(came == Counter(world.sent[name]), f"{name}: {came - Counter(world.sent[name])} too many, "
              f"{Counter(world.sent[name]) - came} lost")  # fmt: skip
        check(not queue._getters and not getattr(queue, "_putters", ()), f"{name}: somebody waits still")


def stress(seed: int, seconds: float) -> World:
    """Run it all; what went wrong is in `errors` of what this returns."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    world = World(seed)
    chance = random.Random(seed)
    kernels = cast(world)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not world.errors:
            if world.actors:
                interrupt(chance.choice(world.actors))
            time.sleep(chance.random() * 0.002)
    finally:
        bring_to_an_end(world, kernels)
        sys.setswitchinterval(interval)
    if not world.errors:
        balance(world)
    return world


def summary(world: World) -> str:
    """What was done."""
    items = sum(len(items) for items in world.got.values())
    operations = sum(world.done.values())
    return f"seed {world.seed}: {operations} operations, {items} items; {dict(sorted(world.done.items()))}"


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_for_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    with capsys.disabled():
        print(f"\nseed {seed}", flush=True)
        world = stress(seed, 60)
        print(summary(world), flush=True)
    assert world.errors == []


def test_for_a_moment() -> None:
    """The same for half a second in each run of the tests, so that the stress itself does not rot."""
    world = stress(20, 0.5)
    assert world.errors == []
    assert sum(world.done.values()) > 0


def main() -> int:
    """The stress as a program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    world = stress(options.seed, options.seconds)
    print(summary(world))
    for error in world.errors:
        print(error)
    return 1 if world.errors else 0


if __name__ == "__main__":
    sys.exit(main())
