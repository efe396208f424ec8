"""What one thread leaves behind on a stack that the next one runs on: nothing."""

from __future__ import annotations

import contextvars
import decimal
import functools
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from spawning import spawn

from scheduler import Scheduler, WaitQueue, current_task, run_scheduler, sleep, yield_now
from scheduler.continuation import current

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Thing:
    """Something that can be looked after with a weak reference."""


@pytest.fixture
def on_one_stack() -> Callable[..., list[object]]:
    """Run functions as threads, one after the other, on one and the same stack; return what each gave."""

    def run(*functions: Callable[[], object]) -> list[object]:
        stacks: list[object] = []
        record: list[object] = []

        def main() -> None:
            for function in functions:
                spawn(lambda: (stacks.append(current()), record.append(function()))).join()  # noqa: B023

        run_scheduler(main)
        assert len(stacks) == len(functions)
        assert len(set(map(id, stacks))) == 1
        return record

    return run


def test_context_variables(on_one_stack: Any) -> None:
    assert on_one_stack(lambda: variable.set("first") and variable.get(), variable.get) == ["first", "unset"]


def test_a_thread_sees_none_of_the_context_of_its_creator_as_with_threading() -> None:
    record: list[str] = []

    def main() -> None:
        variable.set("main")
        spawn(lambda: record.append(variable.get())).join()
        record.append(variable.get())

    # From Python 3.14 a thread may inherit; ours does as the standard one.
    inherited = "unset"
    contextvars.Context().run(run_scheduler, main)
    assert record == [inherited, "main"]


def test_context_variables_stay_apart_between_threads_that_alternate() -> None:
    record: list[tuple[str, str]] = []

    def worker(name: str) -> None:
        variable.set(name)
        for _ in range(3):
            yield_now()
            record.append((name, variable.get()))

    def main() -> None:
        for name in "ab":
            spawn(lambda name=name: worker(name))

    run_scheduler(main)
    assert record == 3 * [("a", "a"), ("b", "b")]


def test_the_decimal_context(on_one_stack: Any) -> None:
    def change() -> int:
        decimal.getcontext().prec = 5
        return decimal.getcontext().prec

    assert on_one_stack(change, lambda: decimal.getcontext().prec) == [5, decimal.DefaultContext.prec]


def test_the_exception_that_is_being_handled(on_one_stack: Any) -> None:
    def handles() -> object:
        try:
            raise ValueError
        except ValueError:
            yield_now()
            return sys.exc_info()[0]

    assert on_one_stack(handles, sys.exc_info) == [ValueError, (None, None, None)]


def test_the_exception_that_ended_the_thread_before(
    on_one_stack: Any, monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    seen: list[object] = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, traceback: seen.append(kind))

    def new_error() -> object:
        try:
            raise KeyError
        except KeyError as error:
            return error.__context__

    def main() -> object:
        spawn(lambda: 1 // 0).join()
        task = spawn(new_error)
        task.join()
        return task.value

    assert run_scheduler(main) is None
    assert seen == [ZeroDivisionError]


def test_exceptions_being_handled_stay_apart_between_threads_that_alternate() -> None:
    record: list[object] = []

    def worker(kind: type[Exception]) -> None:
        for _ in range(2):
            try:
                raise kind
            except kind:
                yield_now()
                record.append(sys.exc_info()[0])
        record.append(sys.exc_info()[0])

    def main() -> None:
        spawn(lambda: worker(ValueError))
        spawn(lambda: worker(KeyError))

    run_scheduler(main)
    assert record == [ValueError, KeyError, ValueError, None, KeyError, None]


def test_a_thread_started_where_an_exception_is_handled_does_not_see_it() -> None:
    def main() -> object:
        try:
            raise ValueError
        except ValueError:
            task = spawn(sys.exc_info)
            task.join()
            return task.value

    assert run_scheduler(main) == (None, None, None)


def test_deep_recursion(on_one_stack: Any) -> None:
    """Each thread has the whole depth, whatever the one before has used of it."""

    def depth(number: int = 0) -> int:
        try:
            return depth(number + 1)
        except RecursionError:
            return number

    depths = on_one_stack(depth, depth, depth)
    assert min(depths) == max(depths) > sys.getrecursionlimit() - 100


def test_deep_recursion_in_a_thread_that_is_started_by_a_deep_one() -> None:
    def descend(number: int) -> object:
        if number:
            return descend(number - 1)
        task = spawn(lambda: descend_again(sys.getrecursionlimit() - 200))
        task.join()
        return task.value

    def descend_again(number: int) -> int:
        return descend_again(number - 1) if number else 42

    assert run_scheduler(descend, sys.getrecursionlimit() - 200) == 42


def test_a_switch_deep_in_a_recursion() -> None:
    record: list[int] = []

    def descend(number: int, name: int) -> None:
        if number:
            descend(number - 1, name)
            return
        for _ in range(3):
            yield_now()
            record.append(name)

    def main() -> None:
        for name in range(3):
            spawn(lambda name=name: descend(500, name))

    run_scheduler(main)
    assert record == 3 * [0, 1, 2]


@pytest.fixture
def short_stack() -> Iterator[None]:
    """A recursion limit that is reached soon."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.parametrize("others", ["that run", "that begin", "that end"])
@pytest.mark.parametrize(
    "switch",
    [
        yield_now,
        lambda: sleep(1e-9),
        lambda: WaitQueue().park("in vain", 1e-9),
        lambda: spawn(int).join(),
    ],
    ids=["yield", "sleep", "park", "join"],
)
def test_a_stack_that_ends_in_the_middle_of_a_switch_loses_nobody(
    switch: Callable[[], object], others: str, short_stack: None
) -> None:
    """The switch is the deepest call, and so the one that has no room. How deep it is depends on who comes next."""
    record: list[str] = []
    over = False

    def descend() -> None:
        switch()
        descend()

    def overflow() -> None:
        with pytest.raises(RecursionError):
            descend()
        record.append("overflow")

    def another() -> None:
        while not over and others != "that end":
            if others == "that begin":
                spawn(lambda: None)
            yield_now()
        record.append("another")

    def main() -> None:
        nonlocal over
        start = [spawn(overflow), *(spawn(another) for _ in range(3)), spawn(overflow)]
        start[0].join()
        start[-1].join()
        over = True
        for _ in range(3):
            yield_now()
            sleep(1e-9)

    run_scheduler(main)
    assert sorted(record) == 3 * ["another"] + 2 * ["overflow"]


def test_an_interrupt_may_be_a_recursion_error() -> None:
    record: list[object] = []

    def worker(wait: Callable[[], object]) -> None:
        with pytest.raises(RecursionError, match="not of the stack"):
            while True:
                wait()
        record.append("interrupted")

    def main() -> None:
        for wait in (yield_now, lambda: WaitQueue().park("in vain")):
            task = spawn(functools.partial(worker, wait))
            yield_now()
            task.interrupt(RecursionError("not of the stack"))
            task.join()
        scheduler = current_task().scheduler
        assert scheduler is not None
        record.append((len(scheduler.tasks), len(scheduler.ready)))

    run_scheduler(main)
    assert record == ["interrupted", "interrupted", (1, 0)]


def test_what_a_thread_held_goes_when_it_ends() -> None:
    things: list[weakref.ref[Thing]] = []
    record: list[object] = []

    def worker(thing: Thing) -> Thing:
        local = Thing()
        things.append(weakref.ref(thing))
        things.append(weakref.ref(local))
        yield_now()
        return Thing()

    def main() -> None:
        task = spawn(functools.partial(worker, Thing()))
        task.join()
        record.append([thing() for thing in things])
        result = weakref.ref(task.value)
        record.append(result() is not None)
        del task
        record.append(result())

    gc.disable()
    try:
        run_scheduler(main)
    finally:
        gc.enable()
    assert record == [[None, None], True, None]


def test_an_ended_task_goes_without_the_garbage_collector() -> None:
    gone: list[object] = []

    def main() -> None:
        for fn in (lambda: None, yield_now, lambda: queue.park("a reason", timeout=0)):
            task = spawn(fn)
            task.join()
            reference = weakref.ref(task)
            del task
            gone.append(reference())

    queue = WaitQueue()
    gc.disable()
    try:
        run_scheduler(main)
    finally:
        gc.enable()
    assert gone == [None, None, None]


def test_thousands_of_threads_one_after_another_run_on_one_stack() -> None:
    stacks: set[int] = set()
    record: list[int] = []

    def main() -> None:
        for number in range(2000):
            spawn(lambda: (stacks.add(id(current())), record.append(number))).join()  # noqa: B023

    run_scheduler(main)
    assert record == list(range(2000))
    assert len(stacks) == 1


# ---- Where a thread begins -------------------------------------------------------------------------------------------


def frames_of(task: Any) -> list[str]:
    """The functions on the stack of a parked thread, the innermost first."""
    frame, names = task.continuation.gr_frame, []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("idle", [0, 3])
def test_who_gives_way_to_a_new_thread_keeps_none_of_its_frames(idle: int) -> None:
    def main() -> list[list[str]]:
        waiting = WaitQueue()

        def wait() -> None:
            waiting.park("the end of the test")

        for _ in range(idle):
            spawn(wait)
        yield_now()
        waiting.unpark(idle)
        yield_now()
        tasks = [spawn(wait) for _ in range(6)]
        yield_now()
        stacks = [frames_of(task) for task in tasks]
        waiting.unpark(6)
        return stacks

    assert run_scheduler(main) == [["park", "park", "wait", "_run_tasks"]] * 6


def test_a_stack_that_was_kept_for_a_thread_is_free_again_when_that_runs_elsewhere() -> None:
    def main() -> list[int]:
        scheduler = current_task().scheduler
        assert scheduler is not None
        for _ in range(3):
            spawn(yield_now)
        yield_now()
        yield_now()
        counts = [len(scheduler.idle)]
        for _ in range(3):
            spawn(lambda: None)
        counts.append(len(scheduler.idle))
        # The first begins on the stack that is kept for it, the others on the same one after it.
        yield_now()
        counts.append(len(scheduler.idle))
        return counts

    assert run_scheduler(main) == [3, 0, 3]


def test_a_thread_may_be_made_before_its_scheduler_runs() -> None:
    record: list[str] = []
    scheduler = Scheduler()
    for name in ("first", "second"):
        scheduler.spawn(functools.partial(record.append, name))
    scheduler.run(lambda: record.append("main"))
    assert record == ["first", "second", "main"]
