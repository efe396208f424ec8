"""What a module made before the run: it is under control wherever it is kept, and is itself again afterwards."""

from __future__ import annotations

import collections
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Condition, Event, Lock, RLock, Semaphore
from threading import Thread as T
from time import sleep as take_a_nap
from typing import Any, NamedTuple

import pytest
from plain import explore

import greenthreads
import greenthreads.testing
from greenthreads.testing._session import Session
from scheduler.strategy import Strategy

LOCK = Lock()
RLOCK = RLock()
CONDITION = Condition()
SEMAPHORE = Semaphore()
EVENT = Event()
QUEUE: queue.Queue[int] = queue.Queue()
SIMPLE: SimpleQueue[int] = SimpleQueue()
LOCAL = threading.local()
OURS = greenthreads.Lock()
LIST: list[Any] = [Lock()]
DICT: dict[str, Any] = {"lock": Lock()}
DEQUE = collections.deque([Lock()])
TUPLE = (1, (Lock(),))
BY_NEED: collections.defaultdict[str, Any] = collections.defaultdict(Lock)
LOCAL.colour = "red"


class Pair(NamedTuple):
    lock: Any
    number: int


PAIR = Pair(Lock(), 1)


def bound_methods() -> tuple[Callable[[], Any], Callable[[], Any]]:
    lock = Lock()
    return lock.acquire, lock.release


BOUND = bound_methods()


class Holder:
    lock = Lock()
    make: Any = staticmethod(Lock)

    def __init__(self) -> None:
        self.own = Lock()


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = Lock()


@dataclasses.dataclass(frozen=True)
class Frozen:
    lock: Any = dataclasses.field(default_factory=Lock)


class Proxy:
    """Has the module of what it stands for, as those of published packages have."""

    __module__ = property(lambda self: type(self.target).__module__)  # type: ignore[assignment]

    def __init__(self, target: Any) -> None:
        self.target = target


PROXY = Proxy(Lock())
HOLDER = Holder()
SLOTTED = Slotted()
FROZEN = Frozen()


def default(lock: Any = Lock(), *, other: Any = Lock()) -> tuple[Any, Any]:  # noqa: B008
    return lock, other


def closed_over() -> Callable[[], Any]:
    lock = Lock()
    return lambda: lock


CLOSURE = closed_over()
PARTIAL = functools.partial(lambda lock: lock, Lock())


class ByMethods:
    def __enter__(self) -> None:
        BOUND[0]()

    def __exit__(self, *_: object) -> None:
        BOUND[1]()


# How the code under test comes by a lock, in each of the places where it may keep one.
WAYS: dict[str, Callable[[], Any]] = {
    "a global": lambda: LOCK,
    "a global RLock": lambda: RLOCK,
    "a condition": lambda: CONDITION,
    "a condition's lock": lambda: CONDITION._lock,  # type: ignore[attr-defined]
    "a semaphore": lambda: SEMAPHORE,
    "a queue's mutex": lambda: QUEUE.mutex,
    "one of this library": lambda: OURS,
    "a list": lambda: LIST[0],
    "a dict": lambda: DICT["lock"],
    "a deque": lambda: DEQUE[0],
    "nested tuples": lambda: TUPLE[1][0],  # type: ignore[index]
    "a named tuple": lambda: PAIR.lock,
    "bound methods": ByMethods,
    "a class": lambda: Holder.lock,
    "an instance": lambda: HOLDER.own,
    "a slot": lambda: SLOTTED.lock,
    "a frozen dataclass": lambda: FROZEN.lock,
    "a proxy whose class has no module": lambda: PROXY.target,
    "a default argument": lambda: default()[0],
    "a keyword default": lambda: default()[1],
    "a closure": CLOSURE,
    "a partial": PARTIAL,
}
# And how it makes one, by a name that it took before.
FACTORIES: dict[str, Callable[[], Any]] = {
    "a class's": lambda: Holder.make(),  # noqa: PLW0108 (looked up when called)
    "a dataclass's": lambda: Frozen().lock,
    "a defaultdict's": lambda: BY_NEED["new"],
}


def race(make_lock: Callable[[], Any], uses: bool) -> None:
    lock = make_lock()
    counter = 0

    def increment() -> None:
        nonlocal counter
        if uses:
            with lock:
                value = counter
                take_a_nap(0.1)
                counter = value + 1
        else:
            value = counter
            take_a_nap(0.1)
            counter = value + 1

    threads = [T(target=increment) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    BY_NEED.clear()
    assert counter == 2


@pytest.mark.parametrize("way", [*WAYS, *FACTORIES])
def test_a_lock_that_was_made_before_is_under_control(way: str) -> None:
    find = (WAYS | FACTORIES)[way]
    # Two threads that met at a C lock would be one kernel thread, blocked for good.
    assert explore(lambda: race(find, True), max_executions=50).failure is None
    assert explore(lambda: race(find, False), max_executions=50).failure is not None


def test_all_of_it_is_the_same_again_afterwards() -> None:
    def everything() -> list[Any]:
        instances = [vars(HOLDER), vars(FROZEN), vars(CONDITION), vars(QUEUE), vars(EVENT), vars(SEMAPHORE)]
        values = [value for each in instances for value in each.values()]
        values += [LOCK, RLOCK, LIST[0], DICT["lock"], DEQUE[0], TUPLE, TUPLE[1], BOUND, PAIR, Holder.lock, Holder.make]
        values += [SLOTTED.lock, default.__defaults__, CLOSURE(), PARTIAL(), SIMPLE, LOCAL, Lock, T]
        values += [BY_NEED.default_factory, default()[1], Semaphore, take_a_nap, time.time]
        return values

    before = everything()
    explore(lambda: race(lambda: LOCK, True), max_executions=5)
    explore(lambda: race(lambda: LOCK, False), max_executions=5)
    assert [id(value) for value in everything()] == [id(value) for value in before]
    with LOCK, RLOCK, CONDITION, SEMAPHORE:
        assert not EVENT.is_set()


def test_each_execution_finds_them_as_the_first_did() -> None:
    SIMPLE.put(7)

    def main() -> None:
        assert SIMPLE.get_nowait() == 7
        assert not EVENT.is_set()
        assert QUEUE.empty()
        assert LOCAL.colour == "red"
        assert RLOCK.acquire(blocking=False)
        assert OURS.acquire(blocking=False)
        assert SEMAPHORE.acquire(blocking=False)
        assert LOCK.acquire(blocking=False)
        EVENT.set()
        QUEUE.put(1)
        LOCAL.colour = "blue"
        T(target=CONDITION.acquire).start()
        # All of it is left like that.

    assert explore(main, max_executions=20).failure is None
    assert SIMPLE.get_nowait() == 7
    assert (EVENT.is_set(), QUEUE.qsize(), LOCAL.colour, LOCK.locked()) == (False, 0, "red", False)


def test_a_local_that_was_made_before_is_each_threads_own() -> None:
    def main() -> None:
        seen: list[str] = []

        def body() -> None:
            seen.append(getattr(LOCAL, "colour", "none"))
            LOCAL.colour = "green"

        threads = [T(target=body) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (seen, LOCAL.colour) == (["none", "none"], "red")

    assert explore(main, max_executions=50).failure is None


def test_a_local_of_a_derived_class_is_each_threads_own_too(script: Any) -> None:
    # In an interpreter of its own: patching warns of classes that were derived before, all others' too.
    script("""
        import threading
        import time
        from typing import Any

        from greenthreads.testing import explore


        class Settings(threading.local):
            default = "class"
            __slots__ = ("slot",)  # Shared by all threads, as with the standard class.

            def __init__(self, colour: str, *, size: int = 0) -> None:
                self.colour = colour
                self.size = size

            @property
            def both(self) -> tuple[str, int]:
                return self.colour, self.size

            @both.setter
            def both(self, pair: tuple[str, int]) -> None:
                self.colour, self.size = pair

        class Bare(threading.local):
            __module__ = property(lambda self: "a name")

        settings = Settings("red", size=3)
        settings.size = 4
        bare = Bare()
        bare.x = 1

        def main() -> None:
            seen: list[Any] = []
            made = Settings("white")

            def body(number: int) -> None:
                seen.append((settings.both, settings.default, made.both, vars(bare)))
                settings.colour = f"green {number}"
                settings.own = bare.x = number
                made.both = ("white", number)
                time.sleep(0)
                assert (settings.both, settings.own) == ((f"green {number}", 3), number)
                assert (made.both, bare.x, hasattr(settings, "missing")) == (("white", number), number, False)
                del settings.own, bare.x
                try:
                    del settings.own
                except AttributeError:
                    pass
                else:
                    raise AssertionError("it was deleted twice")

            threads = [threading.Thread(target=body, args=(number,)) for number in range(2)]
            assert (settings.both, vars(bare), isinstance(settings, Settings)) == (("red", 4), {"x": 1}, True)
            settings.size = bare.x = 5
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert seen == [(("red", 3), "class", ("white", 0), {})] * 2
            assert (settings.both, bare.x, made.both) == (("red", 5), 5, ("white", 0))

        found = explore(main, max_executions=30, memory=False)
        assert found.failure is None, found.failure.report()
        assert (settings.both, vars(bare)) == (("red", 4), {"x": 1})
        assert "__getattribute__" not in vars(Settings)
        """)


def test_a_lock_that_is_shut_is_shut_there_too() -> None:
    gate = Lock()
    gate.acquire()

    def main(opens: bool) -> None:
        thread = T(target=gate.acquire)
        thread.start()
        if opens:
            gate.release()
        thread.join()

    assert explore(lambda: main(True)).failure is None
    broken = explore(lambda: main(False)).failure
    assert broken is not None
    assert broken.kind == "deadlock"
    assert gate.locked()


@pytest.mark.parametrize("make", [RLock, greenthreads.RLock])
def test_an_rlock_that_the_test_holds_is_held_there_too(make: Callable[[], Any]) -> None:
    lock = make()

    def taken_by_another() -> bool:
        taken: list[bool] = []
        thread = T(target=lambda: taken.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        return taken[0]

    def main() -> None:
        with lock:
            assert not taken_by_another()
        lock.release()
        assert not taken_by_another()
        lock.release()
        assert taken_by_another()
        with pytest.raises(RuntimeError):
            lock.release()

    with lock, lock:
        assert explore(main, max_executions=20).failure is None
        assert not _is_free(lock)
    assert _is_free(lock)


@pytest.mark.parametrize("make", [RLock, greenthreads.RLock])
def test_an_rlock_that_another_kernel_thread_holds_is_nobodys_there(make: Callable[[], Any]) -> None:
    lock = make()
    held, leave = Event(), Event()

    def hold() -> None:
        with lock:
            held.set()
            leave.wait()

    holder = T(target=hold)
    holder.start()
    held.wait()
    found = explore(lambda: lock.acquire(), max_executions=5).failure  # noqa: PLW0108 (a stand-in by then)
    leave.set()
    holder.join()
    assert found is not None
    assert found.kind == "deadlock"
    assert _is_free(lock)


def _is_free(lock: Any) -> bool:
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = T(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_an_executor_that_has_kernel_threads_already() -> None:
    with ThreadPoolExecutor(1) as pool:
        ident = pool.submit(threading.get_ident).result()

        def main() -> None:
            futures = [pool.submit(threading.get_ident) for _ in range(2)]
            assert all(future.result() != ident for future in futures)

        assert explore(main, max_executions=50).failure is None
        assert pool.submit(threading.get_ident).result() == ident


def test_a_place_that_the_program_has_changed_stays_changed() -> None:
    kept: dict[str, Any] = {"a": Lock(), "b": Lock()}
    b = kept["b"]

    def main() -> None:
        kept.pop("a", None)

    explore(main, max_executions=3)
    assert kept == {"b": b}


def test_who_has_the_names_of_time_has_clocks_that_work() -> None:
    names = vars(time)

    def main() -> None:
        seen.append(names["perf_counter"]())

    seen: list[float] = []
    with Session(main) as session:
        assert session.run(Strategy()) is None
        # Out of control time is real, also meanwhile.
        assert time.perf_counter() > 0
    assert seen == [1_000_000.0]


class Lazy:
    """Makes what it stands for when somebody asks, and be it for its class."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    @property
    def __class__(self) -> Any:
        return type(self.target())

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError(kind)

    def target(self) -> Any:
        try:
            return self.value
        except AttributeError:
            self.value = self.make()
            return self.value


# What a test has made before its exploration, and others don't come by: who looks at all objects may ask each of them.
HELD: list[Lazy] = []


def test_a_lazy_proxy_is_not_asked_what_it_is() -> None:
    by_the_walk: list[int] = []
    HELD.append(Lazy(lambda: by_the_walk.append(1)))

    def main() -> None:
        made: list[int] = []
        lazy = Lazy(lambda: made.append(1))
        threads = [T(target=lambda: lazy.target()) for _ in range(2)]  # noqa: PLW0108
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == len(HELD)

    # Its report as well: the failing execution is run again, and each value looked at.
    found = greenthreads.testing.explore(main, max_seconds=None).failure
    assert found is not None
    assert found.kind == "assertion"
    assert "-- preempted --" in found.report()
    HELD.clear()
    assert by_the_walk == []
