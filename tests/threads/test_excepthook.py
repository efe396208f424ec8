"""What becomes of an exception that leaves a thread: as with threading, down to the text on standard error."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Thread, ThreadInterrupted, run_scheduler, yield_now
from greenthreads.carriers import Kind


def fail() -> None:
    raise ValueError("in the thread")


def run_one(make: Callable[..., Any], target: Callable[[], object], **options: Any) -> Any:
    """Run a thread to its end, from start to join."""
    thread = make(target=target, **options)
    thread.start()
    thread.join()
    return thread


def test_the_hook_hears_of_the_exception_and_of_the_thread(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(greenthreads, "excepthook", seen.append)
    thread = run_scheduler(run_one, Thread, fail, kind=kind)
    (args,) = seen
    assert (args.exc_type, str(args.exc_value), args.thread) == (ValueError, "in the thread", thread)
    assert args.exc_traceback is args.exc_value.__traceback__
    assert isinstance(args, threading.ExceptHookArgs)


def test_threading_s_hook_hears_of_it_too_unless_ours_is_replaced(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(f"theirs {args.exc_value}"))
    run_scheduler(run_one, Thread, fail, kind=kind)
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(f"ours {args.exc_value}"))
    run_scheduler(run_one, Thread, fail, kind=kind)
    assert seen == ["theirs in the thread", "ours in the thread"]


def test_ours_may_stand_in_for_threading_s(kind: Kind, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """As after `import greenthreads as threading` in a program that copies the one hook to the other."""
    monkeypatch.setattr(threading, "excepthook", greenthreads.excepthook)
    run_scheduler(run_one, Thread, fail, kind=kind)
    assert capfd.readouterr().err.splitlines()[-1] == "ValueError: in the thread"


def test_the_other_threads_and_main_go_on(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: record.append(str(args.exc_value)))
    record: list[str] = []

    def main() -> str:
        run_one(Thread, fail, kind=kind)
        run_one(Thread, lambda: record.append("another"), kind=kind)
        return "result"

    assert run_scheduler(main) == "result"
    assert record == ["in the thread", "another"]


@pytest.mark.parametrize("status", [0, 3, "a message"])
def test_system_exit_ends_the_thread_and_nothing_is_said(
    kind: Kind, status: object, monkeypatch: Any, capfd: Any
) -> None:
    # pytest has put a hook of its own there.
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def leave() -> None:
        sys.exit(status)  # type: ignore[arg-type]

    thread = run_scheduler(run_one, Thread, leave, kind=kind)
    assert thread.is_alive() is False
    assert capfd.readouterr() == ("", "")


def test_system_exit_reaches_a_hook_of_one_s_own(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(args.exc_type))
    run_scheduler(run_one, Thread, sys.exit, kind=kind)
    assert seen == [SystemExit]


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_other_base_exceptions_are_reported(kind: Kind, error: type[BaseException], monkeypatch: Any) -> None:
    seen: list[object] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(args.exc_type))

    def leave() -> None:
        raise error

    run_scheduler(run_one, Thread, leave, kind=kind)
    assert seen == [error]


def normal(text: str) -> str:
    """Without the frames of either library, the names and the numbers."""
    lines = text.splitlines()
    kept: list[str] = []
    skipping = False
    for line in lines:
        if line.startswith("  File "):
            skipping = re.search(r"/(threading|thread|_hooks|carriers)\.py\"", line) is not None
            line = re.sub(r", line \d+,", ", line N,", line)
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(re.sub(r"Thread-\d+", "Thread-N", line))
    return "\n".join(kept)


def cause() -> None:
    try:
        fail()
    except ValueError as error:
        raise KeyError("with a cause") from error


@pytest.mark.parametrize("target", [fail, cause], ids=["plain", "with a cause"])
@pytest.mark.parametrize("options", [{}, {"name": "my thread"}], ids=["numbered", "named"])
def test_the_text_on_standard_error_is_threading_s(
    kind: Kind, target: Callable[[], object], options: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    run_one(threading.Thread, target, **options)
    expected = normal(capfd.readouterr().err)
    assert expected.startswith("Exception in thread ")
    run_scheduler(run_one, Thread, target, kind=kind, **options)
    assert normal(capfd.readouterr().err) == expected


def failing_hook(args: object) -> None:
    raise RuntimeError("in the hook")


def test_a_hook_that_raises_is_reported_as_threading_does(kind: Kind, monkeypatch: Any, capfd: Any) -> None:
    seen: list[tuple[object, str]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: seen.append((kind, str(error))))
    monkeypatch.setattr(threading, "excepthook", failing_hook)
    run_one(threading.Thread, fail)
    expected = list(seen), capfd.readouterr().err
    assert expected == ([(RuntimeError, "in the hook")], "Exception in threading.excepthook:\n")
    for module in (threading, greenthreads):
        del seen[:]
        with monkeypatch.context() as patch:
            patch.setattr(module, "excepthook", failing_hook)
            thread = run_scheduler(run_one, Thread, fail, kind=kind)
        assert (list(seen), capfd.readouterr().err) == expected
        assert thread.is_alive() is False


@pytest.mark.parametrize("make", [threading.Thread, Thread])
def test_a_hook_that_exits_ends_the_thread_and_no_more(make: Any, kind: Kind, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _args: sys.exit(3))
    options = {} if make is threading.Thread else {"kind": kind}
    thread = run_scheduler(run_one, make, fail, **options)
    assert thread.is_alive() is False
    assert capfd.readouterr().err == ""


def test_a_hook_of_none_stands_for_the_built_in_one(kind: Kind, monkeypatch: Any, capfd: Any) -> None:
    for module in (threading, greenthreads):
        with monkeypatch.context() as patch:
            patch.setattr(threading, "excepthook", threading.__excepthook__)
            patch.setattr(module, "excepthook", None)
            run_scheduler(run_one, Thread, fail, kind=kind)
        assert capfd.readouterr().err.splitlines()[-1] == "ValueError: in the thread"


def test_without_a_standard_error_nothing_is_said_and_nothing_breaks(kind: Kind, monkeypatch: Any) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(sys, "stderr", None)
    thread = run_scheduler(run_one, Thread, fail, kind=kind)
    monkeypatch.setattr(threading, "excepthook", failing_hook)
    thread = run_scheduler(run_one, Thread, fail, kind=kind)
    assert thread.is_alive() is False


def test_in_the_hook_the_current_thread_is_the_one_that_failed(kind: Kind, monkeypatch: Any) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        greenthreads,
        "excepthook",
        lambda args: seen.append((greenthreads.current_thread() is args.thread, args.thread.is_alive())),
    )
    run_scheduler(run_one, Thread, fail, kind=kind)
    assert seen == [(True, True)]


def test_the_hook_may_wait(kind: Kind, monkeypatch: Any) -> None:
    record: list[str] = []
    event = Event()

    def hook(args: Any) -> None:
        event.wait()
        record.append("hook")

    def main() -> None:
        thread = Thread(target=fail, kind=kind)
        thread.start()
        yield_now()
        event.set()
        thread.join()
        record.append("joined")

    monkeypatch.setattr(greenthreads, "excepthook", hook)
    run_scheduler(main)
    assert record == ["hook", "joined"]


def test_one_that_is_interrupted_before_its_first_line_is_reported_by_the_same_hook(
    kind: Kind, monkeypatch: Any
) -> None:
    seen: list[object] = []
    record: list[str] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append((args.exc_type, args.thread)))
    monkeypatch.setattr(sys, "excepthook", lambda *args: record.append("sys.excepthook"))

    def main() -> Thread:
        # Never set: a kernel thread may get this far.
        thread = Thread(target=Event().wait, kind=kind)
        thread.start()
        thread.interrupt()
        thread.join()
        return thread

    thread = run_scheduler(main)
    assert (seen, record) == ([(ThreadInterrupted, thread)], [])


def test_the_exception_does_not_outlive_the_thread(kind: Kind, monkeypatch: Any) -> None:
    import gc
    import weakref

    class Failure(Exception):
        pass

    references: list[weakref.ref[Failure]] = []

    def leave() -> None:
        error = Failure()
        references.append(weakref.ref(error))
        raise error

    monkeypatch.setattr(greenthreads, "excepthook", lambda args: None)

    def main() -> object:
        thread = run_one(Thread, leave, kind=kind)
        gc.collect()
        return references[0](), thread.is_alive()

    assert run_scheduler(main) == (None, False)


def test_the_traceback_begins_with_the_thread_s_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames(traceback: Any) -> list[str]:
        names = []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        return names

    seen: list[list[str]] = []
    monkeypatch.setattr(greenthreads, "excepthook", lambda args: seen.append(frames(args.exc_traceback)))
    run_scheduler(run_one, Thread, fail)
    assert seen == [["fail"]]


def test_the_hook_is_called_in_the_thread_which_is_alive_and_may_wait(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool, bool]] = []

    def hook(args: Any) -> None:
        yield_now()
        me = greenthreads.current_thread()
        seen.append((me is args.thread, me.is_alive(), sys.exc_info()[1] is args.exc_value))

    monkeypatch.setattr(greenthreads, "excepthook", hook)
    run_scheduler(run_one, Thread, fail, kind=kind)
    assert seen == [(True, True, True)]


def test_a_thread_that_is_interrupted_in_the_hook_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def hook(args: Any) -> None:
        seen.append(type(args.exc_value).__name__)
        if len(seen) == 1:
            Event().wait()

    def main() -> bool:
        thread = Thread(target=fail)
        thread.start()
        yield_now()
        thread.interrupt(KeyboardInterrupt)
        thread.join()
        return thread.is_alive()

    monkeypatch.setattr(greenthreads, "excepthook", hook)
    assert run_scheduler(main) is False
    assert seen == ["ValueError", "KeyboardInterrupt"]
