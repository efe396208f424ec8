"""`ThreadGroup`: threads end where they began, and what goes wrong in any of them is raised there."""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
from typing import Any

import pytest

from greenthreads import Deadlock, Event, Thread, ThreadGroup, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import shield

if sys.version_info >= (3, 11):
    from builtins import BaseExceptionGroup, ExceptionGroup
else:
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def shown(error: BaseException) -> Any:
    """An exception with all that it holds, as text."""
    if isinstance(error, BaseExceptionGroup):
        return [type(error).__name__, *(shown(each) for each in error.exceptions)]
    return repr(error)


def outcome_of(main: Any) -> Any:
    """What comes out of a block, as text."""

    def guarded() -> Any:
        try:
            return main()
        except BaseException as error:
            return shown(error)

    return run_scheduler(guarded)


def test_the_threads_are_joined_at_the_end_of_the_block(kind: Kind) -> None:
    record: list[object] = []

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            threads = [group.start(record.append, number) for number in range(3)]
            threads.append(group.start(lambda *, word: record.append(word), word="key"))
        record.append([(thread.kind, thread.is_alive()) for thread in threads])

    run_scheduler(main)
    assert record[-1] == [(kind, False)] * 4
    assert sorted(record[:-1], key=str) == [0, 1, 2, "key"]


def test_threads_that_are_started_by_threads_of_the_group_are_joined_too(kind: Kind) -> None:
    record: list[int] = []

    def grow(group: ThreadGroup, depth: int) -> None:
        record.append(depth)
        if depth < 3:
            group.start(grow, group, depth + 1)
            group.start(grow, group, depth + 1)

    def main() -> int:
        with ThreadGroup(kind=kind) as group:
            group.start(grow, group, 0)
        return len(record)

    assert run_scheduler(main) == 15


def test_when_one_fails_the_others_and_the_block_are_interrupted(kind: Kind, until: Any, waits: Any) -> None:
    record: list[str] = []

    def wait(name: str) -> None:
        try:
            Event().wait()
        except ThreadInterrupted as error:
            record.append(f"{name}: {error}")
            raise

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            waiting = [group.start(wait, name) for name in "ab"]
            until(lambda: all(waits(thread) for thread in waiting))
            group.start(int, "x")
            wait("block")

    assert outcome_of(main) == ["ExceptionGroup", """ValueError("invalid literal for int() with base 10: 'x'")"""]
    why = "another thread of the group failed"
    assert sorted(record) == [f"{name}: {why}" for name in ("a", "b", "block")]


def test_all_that_goes_wrong_is_raised(kind: Kind, until: Any, waits: Any) -> None:
    def fail_too() -> None:
        try:
            Event().wait()
        finally:
            raise KeyError("in its cleanup")

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            waiting = group.start(fail_too)
            until(lambda: waits(waiting))
            raise LookupError("of the block")

    assert outcome_of(main) == ["ExceptionGroup", "KeyError('in its cleanup')", "LookupError('of the block')"]


def test_when_the_block_fails_the_threads_are_interrupted(kind: Kind, until: Any, waits: Any) -> None:
    record: list[str] = []

    def wait() -> None:
        try:
            Event().wait()
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            waiting = group.start(wait)
            until(lambda: waits(waiting))
            raise LookupError

    assert outcome_of(main) == ["ExceptionGroup", "LookupError()"]
    assert record == ["interrupted"]


def test_an_exception_that_is_no_exception_of_the_program_leaves_the_block_as_it_is(kind: Kind) -> None:
    def main(error: type[BaseException]) -> Any:
        def body() -> None:
            with ThreadGroup(kind=kind) as group:
                group.start(yield_now)
                raise error

        return body

    assert [outcome_of(main(error)) for error in (KeyboardInterrupt, SystemExit)] == [
        "KeyboardInterrupt()", "SystemExit()",
    ]  # fmt: skip


def test_a_thread_that_ends_itself_has_not_failed(kind: Kind) -> None:
    def main() -> str:
        with ThreadGroup(kind=kind) as group:
            group.start(sys.exit)
        return "no failure"

    assert outcome_of(main) == "no failure"


def test_base_exceptions_of_threads_make_a_group_of_their_sort(kind: Kind) -> None:
    class Stop(BaseException):
        pass

    def stop() -> None:
        raise Stop

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            group.start(stop)

    assert outcome_of(main) == ["BaseExceptionGroup", "Stop()"]


def test_one_that_has_not_run_when_another_fails_does_not_run() -> None:
    record: list[str] = []

    def main() -> None:
        with ThreadGroup() as group:
            group.start(int, "x")
            group.start(record.append, "ran")

    assert outcome_of(main)[0] == "ExceptionGroup"
    assert record == []


def test_who_interrupts_the_whole_group_has_it_end_first(kind: Kind, until: Any, waits: Any) -> None:
    record: list[str] = []

    def wait() -> None:
        try:
            Event().wait()
        finally:
            record.append("ended")

    def block() -> None:
        try:
            with ThreadGroup(kind=kind) as group:
                group.start(wait)
                group.start(wait)
        except BaseException as error:
            record.append(shown(error))

    def main() -> None:
        thread = Thread(target=block, kind=kind)
        thread.start()
        until(lambda: waits(thread))
        thread.interrupt(ThreadInterrupted("stop it all"))
        thread.join()

    run_scheduler(main)
    assert record == ["ended", "ended", ["ExceptionGroup", "ThreadInterrupted('stop it all')"]]


def test_a_deadlock_ends_the_threads_and_the_group() -> None:
    record: list[str] = []

    def wait() -> None:
        try:
            Event().wait()
        finally:
            record.append("ended")

    def main() -> None:
        with ThreadGroup() as group:
            group.start(wait)
            group.start(wait)

    assert outcome_of(main)[:1] == ["ExceptionGroup"]
    assert record == ["ended", "ended"]


@pytest.mark.parametrize("how", ["swallows", "suspended"])
def test_a_deadlock_of_threads_that_an_interrupt_does_not_end(how: str) -> None:
    event = Event()

    def wait() -> None:
        while not event.is_set():
            try:
                event.wait()
            except ThreadInterrupted:
                pass

    def fail() -> None:
        raise ValueError

    def main() -> list[type[BaseException]]:
        try:
            with ThreadGroup() as group:
                thread = group.start(wait)
                yield_now()
                if how == "suspended":
                    thread.suspend()
                group.start(fail)
        except ExceptionGroup as error:
            event.set()
            thread.resume()
            return [type(each) for each in error.exceptions]
        return []

    assert run_scheduler(main) == [ValueError, Deadlock]


def test_groups_in_groups(kind: Kind) -> None:
    def inner() -> None:
        with ThreadGroup(kind=kind) as group:
            group.start(int, "x")

    def main() -> None:
        with ThreadGroup(kind=kind) as group:
            group.start(inner)

    failure = """ValueError("invalid literal for int() with base 10: 'x'")"""
    assert outcome_of(main) == ["ExceptionGroup", ["ExceptionGroup", failure]]


def test_an_interrupt_that_came_too_late_is_not_raised_after_the_block(run_virtually: Any) -> None:
    """The block has just ended when a thread fails; what follows it is none of the group's business."""

    def fail() -> None:
        sleep(1)
        raise KeyError

    def main() -> str:
        with pytest.raises(ExceptionGroup):
            with ThreadGroup() as group:
                group.start(fail)
        sleep(1)
        yield_now()
        return "undisturbed"

    assert run_virtually(main) == "undisturbed"


def test_threads_of_one_s_own_class_and_of_both_kinds(outcome: Any) -> None:
    record: list[str] = []

    class Named(Thread):
        def run(self) -> None:
            record.append(self.kind)

    def main() -> list[object]:
        with ThreadGroup() as group:
            started = [group.add(Named(kind="user")), group.add(Named(kind="kernel"))]
            twice = outcome(group.add, started[0])
        return [twice, outcome(group.start, print), outcome(group.__enter__)]

    assert run_scheduler(main) == [
        (RuntimeError, "threads can only be started once"),
        (RuntimeError, "the group is ending: no thread can join it any more"),
        (RuntimeError, "a group serves one block: make another"),
    ]
    assert sorted(record) == ["kernel", "user"]
    assert outcome(ThreadGroup().start, print) == (RuntimeError, "the group begins with its `with` block")


def test_in_a_kernel_thread_without_any_scheduler() -> None:
    record: list[int] = []
    with ThreadGroup(kind="kernel") as group:
        for number in range(3):
            group.start(record.append, number)
    assert sorted(record) == [0, 1, 2]
    with pytest.raises(ExceptionGroup) as caught, ThreadGroup(kind="kernel") as group:
        group.start(int, "x")
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert caught.value.message == "failures in a ThreadGroup"


def test_a_thread_that_fails_as_it_starts_and_the_one_that_starts_it_do_not_interrupt_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each would wait for the other to leave the library, and after a while be interrupted inside of it."""
    record: list[bool] = []
    raise_outside = shield.raise_outside

    def heard(ident: int, kind: type[BaseException], *, anywhere: bool = False, at_end: bool = False) -> bool:
        record.append(anywhere and ident != threading.get_ident())
        return raise_outside(ident, kind, anywhere=anywhere, at_end=at_end)

    monkeypatch.setattr(shield, "raise_outside", heard)
    for _ in range(3):
        with pytest.raises(ExceptionGroup), ThreadGroup(kind="kernel") as group:
            group.start(int, "x")
    assert not any(record)


def test_without_exception_groups_it_says_at_once_what_is_missing(monkeypatch: Any, outcome: Any) -> None:
    """Before Python 3.11 they come from a package, which may not be there. Better now than when a thread has failed."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delattr(builtins, "BaseExceptionGroup", raising=False)
    monkeypatch.setattr(importlib, "import_module", missing)
    assert outcome(ThreadGroup) == (
        ImportError,
        "ThreadGroup needs exception groups, which Python has since 3.11: pip install 'greenthreads[groups]'",
    )


def test_a_kind_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="kind must be 'user' or 'kernel', not 'green'"):
        ThreadGroup(kind="green")  # type: ignore[arg-type]
