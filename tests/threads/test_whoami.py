"""`current_thread`, `main_thread`, `enumerate` and their like, asked from every place where code can run."""

from __future__ import annotations

import _thread
import threading
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Thread, current_thread, main_thread, run_in_kernel_thread, run_scheduler, yield_now
from greenthreads.carriers import Kind
from scheduler import current_task


def names() -> list[str]:
    """Of all threads, and a check that the counts agree."""
    threads = greenthreads.enumerate()
    assert greenthreads.active_count() == len(threads)
    return [thread.name for thread in threads]


def test_in_the_main_thread_outside_of_any_scheduler() -> None:
    assert current_thread() is main_thread()
    assert (current_thread().name, current_thread().daemon) == ("MainThread", False)
    assert current_thread().ident == greenthreads.get_ident() == threading.get_ident()
    assert current_thread().native_id == greenthreads.get_native_id() == threading.get_native_id()
    assert names() == ["MainThread"]
    assert main_thread().is_alive() is True


def test_in_the_main_user_thread_it_is_the_same_thread() -> None:
    outside = main_thread()

    def main() -> list[str]:
        assert current_thread() is main_thread() is outside
        assert current_thread().ident == greenthreads.get_ident() == threading.get_ident()
        assert greenthreads.get_native_id() == threading.get_native_id()
        assert main_thread().is_alive() is True
        return names()

    assert run_scheduler(main) == ["MainThread"]


def test_in_a_thread_of_either_kind(kind: Kind) -> None:
    record: list[object] = []
    gate = Event()

    def worker() -> None:
        me = current_thread()
        record.append(me)
        record.append((me.ident == greenthreads.get_ident(), me is not main_thread(), me.is_alive()))
        gate.wait()

    def main() -> None:
        thread = Thread(target=worker, name="worker", kind=kind)
        assert names() == ["MainThread"]
        thread.start()
        while len(record) < 2:
            yield_now()
        assert names() == ["MainThread", "worker"]
        gate.set()
        thread.join()
        assert names() == ["MainThread"]
        assert record == [thread, (True, True, True)]

    run_scheduler(main)


def test_those_that_have_not_started_or_have_ended_are_not_enumerated(kind: Kind) -> None:
    gate = Event()

    def main() -> None:
        threads = [Thread(target=gate.wait, name=f"thread {n}", kind=kind) for n in range(3)]
        assert names() == ["MainThread"]
        for thread in threads:
            thread.start()
        assert names() == ["MainThread", "thread 0", "thread 1", "thread 2"]
        assert greenthreads.enumerate()[1:] == threads
        gate.set()
        for thread in threads:
            thread.join()
        assert names() == ["MainThread"]

    run_scheduler(main)


def test_in_a_thread_of_the_standard_library_s() -> None:
    record: list[Any] = []

    def worker() -> None:
        me = current_thread()
        record.append(me)
        record.append((me.name, me.daemon, me.kind, me.is_alive(), me is current_thread()))
        record.append((me.ident == threading.get_ident(), me.native_id == threading.get_native_id()))
        record.append(names())

    thread = threading.Thread(target=worker, name="foreign", daemon=True)
    thread.start()
    thread.join()
    assert record[1:] == [("foreign", True, "kernel", True, True), (True, True), ["MainThread", "foreign"]]
    # With the thread goes what stands for it.
    assert record[0].is_alive() is False
    assert names() == ["MainThread"]
    with pytest.raises(RuntimeError, match=r"^cannot join a dummy thread$"):
        record[0].join()


def test_in_a_thread_that_no_library_knows(until: Any) -> None:
    record: list[Any] = []
    _thread.start_new_thread(lambda: record.extend([current_thread(), names()]), ())
    until(lambda: len(record) == 2 and not record[0].is_alive())
    assert record[0].name.startswith("Dummy-")
    assert record[1] == ["MainThread", record[0].name]
    assert (record[0].daemon, record[0].kind) == (True, "kernel")
    assert names() == ["MainThread"]


def test_foreign_threads_come_and_go_and_identifiers_are_used_again() -> None:
    """Also by threads of ours, and by foreign ones that never ask who they are."""
    gate = Event()
    for _ in range(20):
        seen: list[Thread] = []
        asks = threading.Thread(target=lambda: seen.append(current_thread()))  # noqa: B023
        asks.start()
        asks.join()
        ours = Thread(target=gate.wait, kind="kernel", name="ours")
        ours.start()
        try:
            assert names() == ["MainThread", "ours"]
            assert seen[0].is_alive() is False
        finally:
            gate.set()
            ours.join()
            gate.clear()
        standard_gate = threading.Event()
        silent = threading.Thread(target=standard_gate.wait)
        silent.start()
        assert names() == ["MainThread"]
        standard_gate.set()
        silent.join()


def test_in_a_task_that_has_no_thread_object() -> None:
    record: list[Any] = []

    def worker() -> None:
        me = current_thread()
        record.append((me.name, me.kind, me.daemon, me is current_thread(), me.ident == greenthreads.get_ident()))
        record.append(names())
        record.append(me)

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.spawn(worker, name="raw", daemon=True).join()
        record.append(names())

    run_scheduler(main)
    assert record[0] == ("raw", "user", True, True, True)
    assert record[1] == ["MainThread", "raw"]
    assert record[2].is_alive() is False
    assert record[3] == ["MainThread"]


def test_in_a_pooled_kernel_thread() -> None:
    def probe() -> tuple[object, ...]:
        me = current_thread()
        return me.kind, me.daemon, me.ident == threading.get_ident(), me is current_thread(), me is not main_thread()

    assert run_scheduler(run_in_kernel_thread, probe) == ("kernel", True, True, True, True)


def test_in_the_main_user_thread_of_another_kernel_thread(until: Any) -> None:
    record: list[Any] = []
    gate = Event()

    def inner() -> None:
        child = Thread(target=gate.wait, name="inner child")
        child.start()
        record.append((current_thread().name, main_thread().name, current_thread() is host))
        record.append(names())
        child.join()

    host = Thread(target=run_scheduler, args=(inner,), kind="kernel", name="host")

    def main() -> None:
        child = Thread(target=gate.wait, name="outer child")
        child.start()
        host.start()
        until(lambda: len(record) == 2)
        gate.set()
        host.join()
        child.join()

    run_scheduler(main)
    assert record == [
        ("host", "MainThread", True),
        ["MainThread", "outer child", "host", "inner child"],
    ]


def test_in_a_foreign_thread_that_runs_a_scheduler() -> None:
    record: list[object] = []

    def inner() -> None:
        me = current_thread()
        child = Thread(target=lambda: record.append(current_thread().name), name="child")
        child.start()
        child.join()
        record.append((me.name, me is current_thread(), names()))

    kernel = threading.Thread(target=run_scheduler, args=(inner,), name="foreign")
    kernel.start()
    kernel.join()
    assert record == ["child", ("foreign", True, ["MainThread", "foreign"])]
    assert names() == ["MainThread"]


def test_in_a_posted_call_it_is_not_a_thread_that_is_enumerated() -> None:
    """A posted call runs between two threads."""
    record: list[object] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        scheduler.post(lambda: record.append(names()))
        while not record:
            yield_now()

    run_scheduler(main)
    assert record == [["MainThread"]]


def test_every_thread_has_a_name_ident_and_number_of_its_own(kind: Kind) -> None:
    gate = Event()

    def main() -> None:
        threads = [Thread(target=gate.wait, kind=kind) for _ in range(20)]
        for thread in threads:
            thread.start()
        everyone = greenthreads.enumerate()
        assert len(everyone) == 21
        for attribute in ("name", "ident", "native_id"):
            values = [getattr(thread, attribute) for thread in everyone]
            assert len(set(values)) == 21, attribute
            assert None not in values
        gate.set()
        for thread in threads:
            thread.join()

    run_scheduler(main)


@pytest.mark.skipif(not hasattr(_thread, "set_name"), reason="before Python 3.14 the system is told no names")
def test_a_kernel_thread_has_its_name_in_the_system_too() -> None:
    record: list[str] = []

    def worker() -> None:
        record.append(_thread._get_name())  # type: ignore[attr-defined]
        current_thread().name = "renamed"
        record.append(_thread._get_name())  # type: ignore[attr-defined]

    def main() -> None:
        thread = Thread(target=worker, name="worker", kind="kernel")
        thread.start()
        thread.join()
        thread.name = "from outside"

    before = _thread._get_name()  # type: ignore[attr-defined]
    run_scheduler(main)
    assert record == ["worker", "renamed"]
    assert _thread._get_name() == before  # type: ignore[attr-defined]
