"""Ctrl-C raises KeyboardInterrupt in the main user thread, whatever the scheduler is doing. Real signals."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from greenthreads import Event, Lock, Thread
from scheduler import Scheduler, WaitQueue, current_task, run_scheduler, sleep, yield_now

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill(SIGINT) ends the process on Windows")


def ctrl_c() -> None:
    """What the terminal does."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def soon(until: Any) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Press Ctrl-C from a kernel thread once a condition holds."""
    kernels: list[threading.Thread] = []

    def press(condition: Callable[[], object]) -> None:
        kernel = threading.Thread(target=lambda: (until(condition), ctrl_c()))
        kernels.append(kernel)
        kernel.start()

    yield press
    for kernel in kernels:
        kernel.join()


@pytest.fixture
def cut_short_nothing(
    until: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Press Ctrl-C once a condition holds, so that the signal does not end the sleep of the main kernel thread.

    By having the system give it to another one. A signal that comes just before the sleep begins does the same, about
    once in 200 times on a busy machine.
    """
    monkeypatch.setattr("scheduler.kernel.SIGNAL_ROUND", 0.01)
    asked: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    other = threading.Thread(target=lambda: (until(asked.get()), ctrl_c()))
    other.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield asked.put
    finally:
        asked.put(lambda: True)
        other.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def test_while_main_runs() -> None:
    record: list[str] = []

    def main() -> None:
        try:
            ctrl_c()
            for _ in range(1000):
                pass
            record.append("never")
        except KeyboardInterrupt:
            record.append("interrupted")

    run_scheduler(main)
    assert record == ["interrupted"]


@pytest.mark.parametrize("wait", [lambda: sleep(1000), lambda: WaitQueue().park("for ever")])
def test_while_everything_sleeps(soon: Any, wait: Callable[[], object]) -> None:
    record: list[str] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        soon(lambda: scheduler.asleep)
        try:
            wait()
        except KeyboardInterrupt:
            record.append("interrupted")
        yield_now()

    run_scheduler(main)
    assert record == ["interrupted"]


def test_a_sleep_that_the_signal_does_not_cut_short_is_no_long_one(cut_short_nothing: Any) -> None:
    def main() -> None:
        scheduler: Any = current_task().scheduler
        cut_short_nothing(lambda: scheduler.asleep)
        with pytest.raises(KeyboardInterrupt):
            sleep(1000)

    run_scheduler(main)


@pytest.mark.parametrize("timeout", [-1, 1000])
def test_nor_is_the_wait_of_a_kernel_thread(cut_short_nothing: Any, timeout: float, waits: Any) -> None:
    lock = Lock()
    lock.acquire()
    me = current_task()
    cut_short_nothing(lambda: waits(me))
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(timeout=timeout)
    lock.release()


def test_nor_the_unwinding_of_daemons(cut_short_nothing: Any) -> None:
    record: list[str] = []

    def daemon() -> None:
        try:
            sleep(1000)
        finally:
            scheduler: Any = current_task().scheduler
            cut_short_nothing(lambda: scheduler.asleep)
            try:
                sleep(4)
                record.append("never")
            finally:
                record.append("unwound")

    def main() -> None:
        Thread(target=daemon, daemon=True).start()
        yield_now()

    with pytest.raises(KeyboardInterrupt):
        run_scheduler(main)
    assert record == ["unwound"]


def test_uncaught_it_comes_out_of_run_scheduler_after_the_others_have_ended(soon: Any) -> None:
    record: list[str] = []
    event = Event()

    def other() -> None:
        event.wait()
        record.append("other")

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        Thread(target=other).start()
        soon(lambda: scheduler.asleep)
        try:
            sleep(1000)
        finally:
            event.set()

    with pytest.raises(KeyboardInterrupt):
        run_scheduler(main)
    assert record == ["other"]


def test_while_another_thread_runs_main_gets_it() -> None:
    record: list[str] = []

    def other() -> None:
        ctrl_c()
        for _ in range(1000):
            pass
        record.append("other goes on")

    def main() -> None:
        thread = Thread(target=other)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            record.append("main is interrupted")

    run_scheduler(main)
    assert record == ["other goes on", "main is interrupted"]


def test_while_two_others_yield_to_each_other_for_ever() -> None:
    record: list[str] = []
    over = False

    def spin(first: bool) -> None:
        if first:
            ctrl_c()
        while not over:
            yield_now()

    def main() -> None:
        nonlocal over
        threads = [Thread(target=spin, args=(first,)) for first in (True, False)]
        for thread in threads:
            thread.start()
        try:
            threads[0].join()
        except KeyboardInterrupt:
            record.append("main is interrupted")
        over = True

    run_scheduler(main)
    assert record == ["main is interrupted"]


def test_main_that_waits_its_turn_gets_it_at_its_turn() -> None:
    record: list[str] = []

    def other() -> None:
        ctrl_c()
        yield_now()
        record.append("other")

    def main() -> None:
        Thread(target=other).start()
        try:
            while True:
                yield_now()
        except KeyboardInterrupt:
            record.append("main")

    run_scheduler(main)
    assert sorted(record) == ["main", "other"]


def test_a_second_one_stops_a_thread_that_does_not_let_go_of_the_kernel_thread() -> None:
    record: list[str] = []

    def other() -> None:
        ctrl_c()
        try:
            ctrl_c()
            for _ in range(1000):
                pass
            record.append("never")
        except KeyboardInterrupt:
            record.append("the hog is interrupted")

    def main() -> None:
        thread = Thread(target=other)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            record.append("so is main")

    run_scheduler(main)
    assert record == ["the hog is interrupted", "so is main"]


def test_after_main_has_ended_it_comes_out_of_run_scheduler() -> None:
    record: list[str] = []

    def other() -> None:
        try:
            ctrl_c()
            sleep(1000)
        finally:
            record.append("unwound")

    def main() -> None:
        Thread(target=other).start()

    with pytest.raises(KeyboardInterrupt):
        run_scheduler(main)
    assert record == ["unwound"]


def test_after_main_has_ended_and_all_others_sleep(soon: Any) -> None:
    record: list[str] = []
    scheduler = Scheduler()

    def other() -> None:
        try:
            sleep(1000)
        finally:
            record.append("unwound")

    def main() -> None:
        Thread(target=other).start()
        soon(lambda: scheduler.asleep and scheduler.main.done)

    with pytest.raises(KeyboardInterrupt):
        scheduler.run(main)
    assert record == ["unwound"]


def test_while_daemons_are_unwound_it_cuts_their_sleep_short_and_comes_out_of_run_scheduler(soon: Any) -> None:
    record: list[str] = []
    scheduler = Scheduler()

    def worker(name: str) -> None:
        try:
            sleep(1000)
        finally:
            try:
                sleep(1000)
            finally:
                record.append(name)

    def main() -> None:
        for name in "ab":
            Thread(target=worker, args=(name,), daemon=True).start()
        yield_now()
        soon(lambda: scheduler.asleep and scheduler.main.done)

    with pytest.raises(KeyboardInterrupt):
        scheduler.run(main)
    assert record == ["a", "b"]


def test_main_s_own_failure_is_not_lost_in_it(soon: Any) -> None:
    scheduler = Scheduler()

    def main() -> None:
        Thread(target=sleep, args=(1000,)).start()
        soon(lambda: scheduler.asleep and scheduler.main.done)
        raise ValueError("main")

    with pytest.raises(KeyboardInterrupt) as raised:
        scheduler.run(main)
    assert repr(raised.value.__context__) == "ValueError('main')"


def test_the_default_handler_is_there_again_afterwards() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run_scheduler(lambda: signal.getsignal(signal.SIGINT)) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_s_own_stays() -> None:
    record: list[str] = []

    def handler(number: int, frame: object) -> None:
        record.append("handled")

    before = signal.signal(signal.SIGINT, handler)
    try:

        def main() -> None:
            assert signal.getsignal(signal.SIGINT) is handler
            ctrl_c()
            yield_now()

        run_scheduler(main)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert record == ["handled"]


def test_a_handler_that_the_program_sets_meanwhile_stays() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        run_scheduler(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_program_s_own_that_raises_while_all_sleep_raises_in_main(soon: Any) -> None:
    class Stop(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGINT, handler)
    record: list[str] = []
    try:

        def main() -> None:
            scheduler = current_task().scheduler
            assert scheduler is not None
            soon(lambda: scheduler.asleep)
            try:
                sleep(1000)
            except Stop:
                record.append("stopped")

        run_scheduler(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert record == ["stopped"]


def test_a_scheduler_on_another_kernel_thread_leaves_the_signal_alone() -> None:
    handlers: list[object] = []
    kernel = threading.Thread(target=run_scheduler, args=(lambda: handlers.append(signal.getsignal(signal.SIGINT)),))
    kernel.start()
    kernel.join()
    assert handlers == [signal.default_int_handler]


def test_main_keeps_the_lock_that_it_was_handed_before_the_interrupt() -> None:
    lock = Lock()
    record: list[object] = []

    def other() -> None:
        lock.release()
        ctrl_c()

    def main() -> None:
        lock.acquire()
        Thread(target=other).start()
        try:
            lock.acquire()
            record.append("acquired")
            yield_now()
        except KeyboardInterrupt:
            record.append(("interrupted", lock.locked()))

    run_scheduler(main)
    assert record == ["acquired", ("interrupted", True)]


def test_main_that_was_woken_before_and_waits_no_more_does_not_lose_it() -> None:
    event = Event()
    record: list[str] = []

    def other() -> None:
        event.set()
        ctrl_c()
        record.append("other goes on")

    def main() -> None:
        Thread(target=other).start()
        event.wait()
        record.append("main ends")

    with pytest.raises(KeyboardInterrupt):
        run_scheduler(main)
    assert record == ["other goes on", "main ends"]


def test_main_that_was_woken_before_may_still_handle_it() -> None:
    event = Event()
    record: list[str] = []

    def other() -> None:
        event.set()
        ctrl_c()

    def main() -> None:
        Thread(target=other).start()
        event.wait()
        with pytest.raises(KeyboardInterrupt):
            yield_now()
        record.append("handled")

    run_scheduler(main)
    assert record == ["handled"]


@pytest.mark.parametrize("times", [1, 20])
def test_a_kernel_thread_that_waits_on_a_primitive_is_interrupted_too(until: Any, waits: Any, times: int) -> None:
    """No scheduler runs: the main kernel thread waits on a lock of ours, and Ctrl-C ends the wait."""
    lock = Lock()
    lock.acquire()
    me = current_task()
    for _ in range(times):
        kernel = threading.Thread(target=lambda: (until(lambda: waits(me)), ctrl_c()))
        kernel.start()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        kernel.join()
        assert len(lock._waiters) == 0
    lock.release()
    assert lock.acquire(blocking=False) is True


def test_a_program_interrupted_from_the_terminal_ends_as_python_does(tmp_path: Path) -> None:
    program = """
import sys
from greenthreads import Thread, run_scheduler, sleep

def worker():
    try:
        print("ready", flush=True)
        sleep(1000)
    finally:
        print("worker unwound", flush=True)

def main():
    Thread(target=worker, daemon=True).start()
    try:
        sleep(1000)
    finally:
        print("main unwound", flush=True)

run_scheduler(main)
"""
    import greenthreads

    path = tmp_path / "program.py"
    path.write_text(program)
    packages = str(Path(greenthreads.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": packages},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert out == "main unwound\nworker unwound\n"
    assert error.splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT
