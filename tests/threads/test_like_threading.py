"""Bad input and odd uses: type and text of each error are the standard library's own, on the Python that runs."""

from __future__ import annotations

import copy
import math
import pickle
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import greenthreads
from greenthreads import run_scheduler, sleep
from greenthreads.carriers import Kind

NAN = math.nan


class Ours:
    """greenthreads, with a default kind, under the names of the standard modules."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(greenthreads, name)

    def Thread(self, *args: Any, **kwargs: Any) -> Any:
        return greenthreads.Thread(*args, kind=self.kind, **kwargs)


class Standard:
    """The standard modules, under one roof."""

    def __getattr__(self, name: str) -> Any:
        for module in (threading, queue, time):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


def nothing() -> None:
    pass


def started(t: Any) -> Any:
    thread = t.Thread(target=nothing, name="a thread")
    thread.start()
    thread.join()
    return thread


def from_inside(t: Any, act: Callable[[Any], object]) -> object:
    """What an action on the calling thread raises in a thread."""
    record: list[object] = []

    def body() -> None:
        try:
            record.append(act(t.current_thread()))
        except BaseException as error:
            record.append((type(error), str(error)))

    thread = t.Thread(target=body)
    thread.start()
    thread.join()
    return record


def uninitialised(t: Any) -> Any:
    class Careless(getattr(t, "Thread", None) if isinstance(t, Standard) else greenthreads.Thread):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    return Careless()


def set_attribute(thing: Any, name: str, value: object) -> None:
    setattr(thing, name, value)


def full(t: Any) -> Any:
    q = t.Queue(1)
    q.put(1)
    return q


def taken(t: Any) -> Any:
    lock = t.Lock()
    lock.acquire()
    return lock


class Rich:
    """Says that it is a number, and is."""

    def __index__(self) -> int:
        return 0


class Mute:
    """A lock that does not tell whether it is taken."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


MISUSES: dict[str, Callable[[Any], object]] = {
    "group": lambda t: t.Thread(1),
    "condition of a lock that tells little": lambda t: bool(t.Condition(Mute())),
    "group None": lambda t: t.Thread(None).name[:7],
    "start twice": lambda t: started(t).start(),
    "join before start": lambda t: t.Thread().join(),
    "join itself": lambda t: from_inside(t, lambda me: me.join()),
    "join itself with a timeout": lambda t: from_inside(t, lambda me: me.join(1)),
    "start itself": lambda t: from_inside(t, lambda me: me.start()),
    "join a str": lambda t: started(t).join("x"),
    "daemon after start": lambda t: set_attribute(started(t), "daemon", True),
    "daemon while running": lambda t: from_inside(t, lambda me: set_attribute(me, "daemon", True)),
    "set the ident": lambda t: set_attribute(t.Thread(), "ident", 1),
    "uninitialised start": lambda t: uninitialised(t).start(),
    "uninitialised join": lambda t: uninitialised(t).join(),
    "uninitialised is_alive": lambda t: uninitialised(t).is_alive(),
    "uninitialised name": lambda t: uninitialised(t).name,
    "uninitialised set name": lambda t: set_attribute(uninitialised(t), "name", "x"),
    "uninitialised ident": lambda t: uninitialised(t).ident,
    "uninitialised daemon": lambda t: uninitialised(t).daemon,
    "uninitialised set daemon": lambda t: set_attribute(uninitialised(t), "daemon", True),
    "uninitialised repr": lambda t: repr(uninitialised(t)),
    "negative sleep": lambda t: t.sleep(-1),
    "negative float sleep": lambda t: t.sleep(-0.001),
    "sleep a str": lambda t: t.sleep("x"),
    "sleep None": lambda t: t.sleep(None),
    "sleep nan": lambda t: t.sleep(NAN),
    "sleep inf": lambda t: t.sleep(math.inf),
    "sleep too long": lambda t: t.sleep(1e300),
    "sleep too long an int": lambda t: t.sleep(10**30),
    "sleep an index": lambda t: t.sleep(Rich()),
    "sleep False": lambda t: t.sleep(False),
    "release unlocked": lambda t: t.Lock().release(),
    "release twice": lambda t: (lock := taken(t)).release() or lock.release(),
    "with timeout, not blocking": lambda t: t.Lock().acquire(False, 1),
    "with timeout, not blocking, taken": lambda t: taken(t).acquire(False, 1),
    "negative lock timeout": lambda t: t.Lock().acquire(timeout=-2),
    "negative lock timeout, taken": lambda t: taken(t).acquire(timeout=-0.5),
    "lock timeout nan": lambda t: t.Lock().acquire(timeout=NAN),
    "lock timeout nan, taken": lambda t: taken(t).acquire(timeout=NAN),
    "lock timeout inf": lambda t: t.Lock().acquire(timeout=math.inf),
    "lock timeout too long": lambda t: t.Lock().acquire(timeout=threading.TIMEOUT_MAX * 10),
    "lock timeout far too long": lambda t: t.Lock().acquire(timeout=1e300),
    "lock timeout a str": lambda t: t.Lock().acquire(timeout="x"),
    "lock timeout None": lambda t: t.Lock().acquire(timeout=None),
    "lock timeout 0, taken": lambda t: taken(t).acquire(timeout=0),
    "lock timeout tiny, taken": lambda t: taken(t).acquire(timeout=1e-9),
    "lock timeout -1, not blocking": lambda t: taken(t).acquire(False, -1),
    "lock blocking a str": lambda t: t.Lock().acquire("x"),
    "lock blocking a list, taken": lambda t: taken(t).acquire([]),
    "rlock blocking a str": lambda t: t.RLock().acquire("x"),
    "rlock blocking None": lambda t: t.RLock().acquire(None),
    "condition blocking a str": lambda t: t.Condition().acquire("x"),
    "lock blocking 1": lambda t: t.Lock().acquire(1),
    "lock blocking 0": lambda t: taken(t).acquire(0),
    "event wait a str, set": lambda t: (e := t.Event()).set() or e.wait("x"),
    "event wait -1": lambda t: t.Event().wait(-1),
    "event wait 0": lambda t: t.Event().wait(0),
    "event wait inf": lambda t: t.Event().wait(math.inf),
    "event wait too long": lambda t: t.Event().wait(1e300),
    "get negative timeout": lambda t: t.Queue().get(timeout=-1),
    "get negative timeout, not blocking": lambda t: t.Queue().get(False, -1),
    "get negative timeout, an item": lambda t: full(t).get(timeout=-1),
    "get negative timeout, an item, unbounded": lambda t: (q := t.Queue()).put(1) or q.get(timeout=-1),
    "get timeout a str, an item": lambda t: (q := t.Queue()).put(1) or q.get(timeout="x"),
    "get bad timeout, not blocking, an item": lambda t: (q := t.Queue()).put(1) or q.get(False, "x"),
    "get not blocking": lambda t: t.Queue().get(False),
    "get timeout 0": lambda t: t.Queue().get(timeout=0),
    "get_nowait": lambda t: t.Queue().get_nowait(),
    "put negative timeout": lambda t: full(t).put(2, timeout=-1),
    "put negative timeout, room": lambda t: t.Queue(1).put(2, timeout=-1),
    "put negative timeout, unbounded": lambda t: t.Queue().put(2, timeout=-1),
    "put not blocking": lambda t: full(t).put(2, False),
    "put timeout 0": lambda t: full(t).put(2, timeout=0),
    "put_nowait": lambda t: full(t).put_nowait(2),
    "task_done too often": lambda t: t.Queue().task_done(),
    "simple get negative timeout": lambda t: t.SimpleQueue().get(timeout=-1),
    "simple get not blocking": lambda t: t.SimpleQueue().get(False),
    "simple get negative timeout, not blocking": lambda t: t.SimpleQueue().get(False, -1),
    "simple get timeout 0": lambda t: t.SimpleQueue().get(timeout=0),
    "simple get timeout inf": lambda t: t.SimpleQueue().get(timeout=math.inf),
    "copy a Lock": lambda t: copy.copy(t.Lock()),
    "copy an RLock": lambda t: copy.copy(t.RLock()),
    "copy a SimpleQueue": lambda t: copy.copy(t.SimpleQueue()),
    **{
        f"{how.__name__} {name}": lambda t, how=how, name=name: how(getattr(t, name)())  # type: ignore[misc]
        for how in (pickle.dumps, copy.deepcopy)
        for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Queue", "SimpleQueue")
    },
    "pickle a Barrier": lambda t: pickle.dumps(t.Barrier(2)),
    "priority queue of what can't be compared": lambda t: (q := t.PriorityQueue()).put(1) or q.put("x"),
}

if sys.version_info >= (3, 13):  # Before, the standard one does not mind, and never opens.
    MISUSES["barrier for nobody"] = lambda t: t.Barrier(0)

# Where the standard library would wait for ever, or loop, there is nothing to compare with.
KINDS_OF_RAISED = {
    "event wait a str": lambda t: t.Event().wait("x"),
    "get a str": lambda t: t.Queue().get(timeout="x"),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_type_and_text(misuse: Callable[[Any], object], kind: Kind, outcome: Any) -> None:
    expected = outcome(misuse, Standard())
    assert run_scheduler(outcome, misuse, Ours(kind)) == expected
    # In a kernel thread as well.
    assert outcome(misuse, Ours("kernel")) == expected


@pytest.mark.parametrize("misuse", KINDS_OF_RAISED.values(), ids=KINDS_OF_RAISED)
def test_type(misuse: Callable[[Any], object], outcome: Any) -> None:
    expected = outcome(misuse, Standard())[0]
    assert run_scheduler(outcome, misuse, Ours("user"))[0] == expected
    assert outcome(misuse, Ours("user"))[0] == expected


BAD_TARGETS: dict[str, Callable[[Any], Any]] = {
    "no callable": lambda t: t.Thread(target=5),
    "a str": lambda t: t.Thread(target="x"),
    "args is an int": lambda t: t.Thread(target=nothing, args=5),
    "args is None": lambda t: t.Thread(target=nothing, args=None),
    "too many args": lambda t: t.Thread(target=nothing, args=(1,)),
    "kwargs is an int": lambda t: t.Thread(target=nothing, kwargs=5),
    "kwargs is False": lambda t: t.Thread(target=nothing, kwargs=False),
    "kwargs is an empty list": lambda t: t.Thread(target=nothing, kwargs=[]),
    "kwargs has no strings": lambda t: t.Thread(target=nothing, kwargs={1: 2}),
    "an unknown keyword": lambda t: t.Thread(target=nothing, kwargs={"x": 2}),
    "args and kwargs": lambda t: t.Thread(target=nothing, args=(1,), kwargs={"x": 2}),
    "args without a target": lambda t: t.Thread(args=5),
}


@pytest.mark.parametrize("make", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_what_fails_in_the_thread_fails_there_with_the_same_words(
    make: Callable[[Any], Any], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, str]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append((args.exc_type, str(args.exc_value))))

    def run(t: Any) -> list[tuple[object, str]]:
        del seen[:]
        thread = make(t)
        thread.start()
        thread.join()
        return list(seen)

    expected = run(Standard())
    assert run_scheduler(run, Ours(kind)) == expected


CLASSIC: dict[str, Callable[[Any], object]] = {
    "getName": lambda t: t.Thread(name="n").getName(),
    "setName": lambda t: (x := t.Thread()).setName("n") or x.name,
    "isDaemon": lambda t: t.Thread(daemon=True).isDaemon(),
    "setDaemon": lambda t: (x := t.Thread()).setDaemon(True) or x.daemon,
    "activeCount": lambda t: t.activeCount() > 0,
    "currentThread": lambda t: t.currentThread() is t.current_thread(),
}


@pytest.mark.parametrize("use", CLASSIC.values(), ids=CLASSIC)
def test_the_classic_spellings_work_and_warn_in_the_same_words(use: Callable[[Any], object], kind: Kind) -> None:
    def run(t: Any) -> tuple[object, list[tuple[object, str, bool]]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = use(t)
        return result, [(w.category, str(w.message), w.filename == __file__) for w in caught]

    expected = run(Standard())
    assert len(expected[1]) == 1
    assert run_scheduler(run, Ours(kind)) == expected


def test_is_alive_in_its_older_spelling(kind: Kind) -> None:
    """Gone from the standard library since Python 3.9, so there is nothing to compare with."""
    with pytest.warns(DeprecationWarning, match=r"^isAlive\(\) is deprecated, use is_alive\(\) instead$"):
        assert greenthreads.Thread(kind=kind).isAlive() is False


REPRS: dict[str, Callable[[Any], object]] = {
    "initial": lambda t: repr(t.Thread(name="n")),
    "initial daemon": lambda t: repr(t.Thread(name="n", daemon=True)),
    "stopped": lambda t: repr(x := started(t)).replace(str(x.ident), "IDENT"),
    "started": lambda t: [s.split(" ")[:2] for s in from_inside(t, lambda me: repr(me).replace(me.name, "n"))],
}


@pytest.mark.parametrize("show", REPRS.values(), ids=REPRS)
def test_repr(show: Callable[[Any], object], kind: Kind) -> None:
    assert run_scheduler(show, Ours(kind)) == show(Standard())


def test_a_long_sleep_is_accepted(run_virtually: Any) -> None:
    """290 years, as long as time.sleep takes."""
    assert run_virtually(lambda: sleep(9.1e9)) is None
    assert run_virtually(lambda: sleep(5 * 10**9)) is None


def test_a_refused_timeout_leaves_nothing_behind(outcome: Any) -> None:
    """A deadline that is no number would put the deadlines of others out of order."""
    lock = greenthreads.Lock()
    lock.acquire()
    event = greenthreads.Event()
    full_queue: greenthreads.Queue[int] = full(greenthreads)
    empty: greenthreads.Queue[int] = greenthreads.Queue()
    simple: greenthreads.SimpleQueue[int] = greenthreads.SimpleQueue()

    def main() -> list[type]:
        thread = greenthreads.Thread(target=greenthreads.yield_now)
        thread.start()
        kinds = [
            outcome(wait)[0]
            for wait in (
                lambda: lock.acquire(timeout=NAN),
                lambda: event.wait(NAN),
                lambda: empty.get(timeout=NAN),
                lambda: full_queue.put(1, timeout=NAN),
                lambda: simple.get(timeout=NAN),
                lambda: thread.join(NAN),
            )
        ]
        scheduler = greenthreads.current_thread()._task.scheduler  # type: ignore[union-attr]
        assert len(scheduler.timers) == 0
        thread.join()
        return kinds

    assert run_scheduler(main) == 6 * [ValueError]
    waiting = [lock._waiters, event._waiters, empty._getters, full_queue._putters, simple._getters]
    assert [len(waiters) for waiters in waiting] == [0, 0, 0, 0, 0]


def test_signatures_are_the_standard_ones() -> None:
    import inspect

    for ours, standard in [
        (greenthreads.Event, threading.Event),
        (greenthreads.Queue, queue.Queue),
        (greenthreads.LifoQueue, queue.LifoQueue),
        (greenthreads.PriorityQueue, queue.PriorityQueue),
    ]:
        for name, function in inspect.getmembers(standard, inspect.isfunction):
            if not name.startswith("_"):
                expected = [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]
                mine = inspect.signature(getattr(ours, name)).parameters.values()
                assert [(p.name, p.default, p.kind) for p in mine] == expected, (ours, name)
    parameters = inspect.signature(greenthreads.Thread).parameters
    for name, parameter in inspect.signature(threading.Thread).parameters.items():
        assert (parameters[name].default, parameters[name].kind) == (parameter.default, parameter.kind), name


@pytest.mark.parametrize(("args", "named"), [((1,), {}), ((1, 2), {}), ((), {"lock": 1})])
@pytest.mark.filterwarnings("ignore:Passing arguments to RLock")
def test_an_rlock_takes_arguments_where_the_standard_one_does(args: Any, named: Any) -> None:
    def outcome(make: Any) -> str:
        try:
            return f"{bool(make(*args, **named))}"
        except TypeError as error:
            return str(error)

    assert outcome(greenthreads.RLock) == outcome(threading.RLock)
