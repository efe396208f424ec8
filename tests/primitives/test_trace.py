"""Trace and profile functions: each thread of either kind has its own, and starts with those that are set."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Thread, run_scheduler, yield_now
from greenthreads.carriers import Kind
from scheduler import observers


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A debugger may have set functions of its own; and the observer that swaps them would stay for good."""
    before = greenthreads.gettrace(), greenthreads.getprofile(), sys.gettrace(), sys.getprofile()
    yield
    greenthreads.settrace(before[0])
    greenthreads.setprofile(before[1])
    sys.settrace(before[2])
    sys.setprofile(before[3])
    while observers.active:
        observers.unsubscribe(observers.active[-1])
    greenthreads.trace._swapping = False


PAIRS: Any = [
    (greenthreads.settrace, greenthreads.gettrace, sys.gettrace),
    (greenthreads.setprofile, greenthreads.getprofile, sys.getprofile),
]


@pytest.mark.parametrize(("set_hook", "get_hook", "get_own"), PAIRS, ids=["trace", "profile"])
def test_a_thread_starts_with_the_function_that_is_set(
    set_hook: Any, get_hook: Any, get_own: Any, kind: Kind
) -> None:
    def hook(frame: FrameType, event: str, argument: object) -> None:
        pass

    record: list[object] = []

    def main() -> None:
        for function in (hook, None):
            set_hook(function)
            record.append(get_hook())
            thread = Thread(target=lambda: record.append(get_own()), kind=kind)
            thread.start()
            thread.join()
            record.append(get_own())

    before = get_own()
    run_scheduler(main)
    assert record == [hook, hook, before, None, None, before]


@pytest.mark.parametrize(("set_hook", "get_hook", "get_own"), PAIRS, ids=["trace", "profile"])
def test_so_does_one_that_was_started_before_it_was_set_and_has_not_run(
    set_hook: Any, get_hook: Any, get_own: Any
) -> None:
    def hook(frame: FrameType, event: str, argument: object) -> None:
        pass

    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda: record.append(get_own()))
        thread.start()
        set_hook(hook)
        thread.join()
        set_hook(None)

    run_scheduler(main)
    assert record == [hook]


def test_it_hears_of_the_thread_s_calls_and_of_no_other_s(kind: Kind) -> None:
    record: list[str] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name in ("inner", "outer"):
            record.append(frame.f_code.co_name)

    def inner() -> None:
        pass

    def outer() -> None:
        inner()

    def main() -> None:
        greenthreads.setprofile(profile)
        thread = Thread(target=outer, kind=kind)
        thread.start()
        greenthreads.setprofile(None)
        thread.join()
        inner()

    # The default is read when the thread begins; a user thread has not yet.
    run_scheduler(main)
    assert record == ([] if kind == "user" else ["outer", "inner"])


def test_user_threads_that_alternate_each_keep_their_own() -> None:
    record: list[tuple[str, object]] = []

    def hook_of(name: str) -> Any:
        def hook(frame: FrameType, event: str, argument: object) -> None:
            pass

        hook.__name__ = name
        return hook

    def work(name: str) -> None:
        if name != "none":
            sys.setprofile(hook_of(name))
        for _ in range(3):
            yield_now()
            hook = sys.getprofile()
            record.append((name, hook and hook.__name__))
        sys.setprofile(None)

    def main() -> None:
        greenthreads.setprofile(lambda *_args: None)  # From now on they are kept apart.
        greenthreads.setprofile(None)
        for name in ("a", "none", "b"):
            Thread(target=work, args=(name,)).start()

    run_scheduler(main)
    assert record == [("a", "a"), ("none", None), ("b", "b")] * 3


def test_the_next_thread_on_the_same_stack_has_none() -> None:
    record: list[object] = []

    def main() -> None:
        greenthreads.setprofile(lambda *_args: None)
        greenthreads.setprofile(None)
        for target in (lambda: sys.setprofile(print), lambda: record.append(sys.getprofile())):
            thread = Thread(target=target)
            thread.start()
            thread.join()
        record.append(sys.getprofile())

    before = sys.getprofile()
    run_scheduler(main)
    assert record == [None, before]


@pytest.mark.parametrize(
    ("set_all", "get_own"),
    [(greenthreads.settrace_all_threads, sys.gettrace), (greenthreads.setprofile_all_threads, sys.getprofile)],
    ids=["trace", "profile"],
)
def test_all_threads_get_the_function_that_is_set_for_all(set_all: Any, get_own: Any, kind: Kind) -> None:
    """Kernel threads that run already since Python 3.12, as with threading; user threads on every Python."""
    started, go = Event(), Event()
    record: list[object] = []

    def hook(frame: FrameType, event: str, argument: object) -> None:
        pass

    def work() -> None:
        started.set()
        go.wait()
        record.append(get_own())

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        started.wait()
        set_all(hook)
        record.append(get_own())
        late = Thread(target=lambda: record.append(get_own()), kind=kind)
        late.start()
        late.join()
        go.set()
        thread.join()
        set_all(None)
        record.append(get_own())

    run_scheduler(main)
    reached = kind == "user" or hasattr(sys, "_settraceallthreads")
    assert record == [hook, hook, hook if reached else None, None]


def test_hooks_set_in_threading_are_its_own() -> None:
    def hook(frame: FrameType, event: str, argument: object) -> None:
        pass

    greenthreads.setprofile(hook)
    assert threading._profile_hook is None  # type: ignore[attr-defined]
    assert greenthreads.getprofile() is hook
