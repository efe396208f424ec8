"""`greenthreads._thread`: the low-level interface, for programs that use `_thread`."""

from __future__ import annotations

import _thread as standard
import sys
import threading
from typing import Any

import pytest

from greenthreads import Event, _thread, current_thread, get_ident, run_scheduler, set_default_kind
from greenthreads.carriers import Kind


def run_in(kind: Kind, main: Any) -> Any:
    """Run `main` as the main user thread, with `kind` as the default."""
    set_default_kind(kind)
    try:
        return run_scheduler(main)
    finally:
        set_default_kind("user")


def test_a_thread_runs_with_its_arguments_and_has_the_identifier_that_was_returned(kind: Kind, in_main: Any) -> None:
    record: list[object] = []
    done = Event()

    def work(*args: object, **kwargs: object) -> None:
        record.append((args, kwargs, get_ident(), _thread.get_ident() == get_ident(), current_thread().kind))
        done.set()

    def main() -> None:
        for start in (_thread.start_new_thread, _thread.start_new):
            done.clear()
            ident = start(work, (1, 2), {"a": 3})
            done.wait()
            record.append(ident)

    in_main(main)
    first, ident, second, other_ident = record
    assert first == ((1, 2), {"a": 3}, ident, True, kind)
    assert second == ((1, 2), {"a": 3}, other_ident, True, kind)


MISUSES = {
    "no callable": lambda module: module.start_new_thread(1, ()),
    "no tuple": lambda module: module.start_new_thread(print, [1]),
    "no dict": lambda module: module.start_new_thread(print, (), 1),
    "no arguments": lambda module: module.start_new_thread(print),
    "exit": lambda module: module.exit(),
    "exit_thread": lambda module: module.exit_thread(),
    "a stack size that is too small": lambda module: module.stack_size(1),
    "a negative stack size": lambda module: module.stack_size(-1),
    "stack size": lambda module: module.stack_size(),
    "error": lambda module: module.error,
    "TIMEOUT_MAX": lambda module: module.TIMEOUT_MAX,
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_answers_and_errors_are_the_standard_module_s(misuse: Any, outcome: Any) -> None:
    expected = outcome(misuse, standard)
    found = run_scheduler(outcome, misuse, _thread)
    assert found[0] == expected[0]
    assert found[1] == expected[1] or "argument" in str(expected[1])


def test_the_stack_size_is_for_kernel_threads() -> None:
    before = _thread.stack_size(512 * 1024)
    try:
        assert threading.stack_size() == 512 * 1024
        done: list[int] = []
        run_in("kernel", lambda: threading.Thread(target=done.append, args=(1,)).start())
    finally:
        threading.stack_size(before)


def test_what_a_thread_fails_with_goes_to_unraisablehook(in_main: Any, monkeypatch: Any) -> None:
    record: list[object] = []
    done = Event()

    def hook(args: Any) -> None:
        record.append((args.exc_type, str(args.exc_value), args.exc_traceback is not None, args.err_msg, args.object))
        done.set()

    def work() -> None:
        raise ValueError("of the thread")

    monkeypatch.setattr(sys, "unraisablehook", hook)
    in_main(lambda: (_thread.start_new_thread(work, ()), done.wait()))
    ours = record.pop()
    done.clear()
    standard.start_new_thread(work, ())
    done.wait()
    assert [ours] == record


@pytest.mark.parametrize("leave", [_thread.exit, _thread.exit_thread, sys.exit])
def test_exit_ends_the_thread_and_says_nothing(leave: Any, in_main: Any, capfd: Any) -> None:
    record: list[str] = []
    done = Event()

    def work() -> None:
        try:
            leave()
            record.append("not reached")
        finally:
            done.set()

    in_main(lambda: (_thread.start_new_thread(work, ()), done.wait()))
    assert (record, capfd.readouterr()) == ([], ("", ""))


def test_locks_are_ours_under_all_their_names() -> None:
    from greenthreads import Lock, RLock, local

    assert {_thread.allocate_lock, _thread.allocate, _thread.LockType, _thread.lock} == {Lock}
    assert (_thread.RLock, _thread._local) == (RLock, local)
    lock = _thread.allocate_lock()
    assert type(lock) is _thread.LockType
    assert lock.acquire_lock() is True


def test_threads_of_both_kinds_are_counted(until: Any) -> None:
    go = Event()

    def main() -> list[int]:
        before = _thread._count()
        counts = []
        for kind in ("user", "kernel"):
            set_default_kind(kind)  # type: ignore[arg-type]
            _thread.start_new_thread(go.wait, ())
            counts.append(_thread._count() - before)
        set_default_kind("user")
        go.set()
        until(lambda: _thread._count() == before)
        return counts

    assert run_scheduler(main) == [1, 2]


def test_interrupt_main_raises_in_the_main_thread_from_either_kind(in_main: Any, outcome: Any) -> None:
    done = Event()

    def work() -> None:
        _thread.interrupt_main()
        done.set()

    def main() -> None:
        _thread.start_new_thread(work, ())
        try:
            Event().wait()
        finally:
            done.wait()

    assert outcome(in_main, main)[0] is KeyboardInterrupt


@pytest.mark.skipif(not hasattr(standard, "start_joinable_thread"), reason="there is none before Python 3.13")
def test_a_joinable_thread(outcome: Any) -> None:
    record: list[object] = []

    def main() -> None:
        handle = _thread.start_joinable_thread(lambda: record.append("runs"))
        record.append((handle.is_done(), handle.ident > 0, handle.join(0)))
        handle.join()
        record.append((handle.is_done(), handle.join()))
        unstarted = _thread._ThreadHandle()
        record.append((unstarted.is_done(), outcome(unstarted.join)))
        _thread.start_joinable_thread(lambda: record.append(outcome(unstarted.join)), handle=unstarted)
        record.append(outcome(_thread.start_joinable_thread, print, handle=unstarted))
        unstarted.join()

    run_scheduler(main)
    assert record == [
        "runs",
        (False, True, None),
        (True, None),
        (False, (RuntimeError, "thread not started")),
        (RuntimeError, "thread already started"),
        (RuntimeError, "Cannot join current thread"),
    ] or record[0] == (False, True, None)


@pytest.mark.skipif(not hasattr(standard, "_set_sentinel"), reason="there is none since Python 3.13")
def test_a_sentinel_is_released_when_its_thread_ends(in_main: Any) -> None:
    locks: list[Any] = []
    ready = Event()

    def work() -> None:
        lock = _thread._set_sentinel()
        lock.acquire()
        locks.append(lock)
        ready.set()

    def main() -> bool:
        _thread.start_new_thread(work, ())
        ready.wait()
        return bool(locks[0].acquire(timeout=30))

    assert in_main(main) is True
