"""Signal handlers that a program installs: they run at once, and what they raise is the main thread's."""

from __future__ import annotations

import os
import signal as standard
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Thread, signal
from scheduler import run_scheduler, sleep, yield_now

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process on Windows")

SIGNAL = standard.SIGTERM


class Stop(Exception):
    """What the handler raises."""


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[..., object]], None]]:
    before = standard.getsignal(SIGNAL)
    yield lambda handler: signal.signal(SIGNAL, handler)
    standard.signal(SIGNAL, before)


def stop(*_: object) -> None:
    raise Stop


def test_it_is_raised_in_the_main_thread_where_another_runs(on_signal: Any) -> None:
    record: list[str] = []

    def worker() -> None:
        standard.raise_signal(SIGNAL)
        record.append("worker goes on")

    def main() -> None:
        thread = Thread(target=worker)
        thread.start()
        try:
            thread.join()
        except Stop:
            record.append("main is stopped")

    on_signal(stop)
    run_scheduler(main)
    assert record == ["worker goes on", "main is stopped"]


def test_it_is_raised_where_the_main_thread_runs(on_signal: Any) -> None:
    def main() -> None:
        with pytest.raises(Stop):
            standard.raise_signal(SIGNAL)

    on_signal(stop)
    run_scheduler(main)


def test_a_second_one_stops_a_thread_that_does_not_let_go(on_signal: Any) -> None:
    record: list[str] = []

    def worker() -> None:
        standard.raise_signal(SIGNAL)
        try:
            standard.raise_signal(SIGNAL)
        except Stop:
            record.append("worker")

    def main() -> None:
        Thread(target=worker).start()
        try:
            yield_now()
        except Stop:
            record.append("main")

    on_signal(stop)
    run_scheduler(main)
    assert record == ["worker", "main"]


def test_it_is_raised_in_the_main_thread_while_all_sleep(on_signal: Any, until: Any) -> None:
    record: list[str] = []

    def others() -> None:
        sleep(1000)
        record.append("never")  # A daemon.

    def main() -> None:
        scheduler: Any = greenthreads.current_thread()._task.scheduler
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), os.kill(os.getpid(), SIGNAL)))
        Thread(target=others, daemon=True).start()
        kernel.start()
        try:
            sleep(1000)
        except Stop:
            record.append("main")
        kernel.join()

    on_signal(stop)
    run_scheduler(main)
    assert record == ["main"]


def test_it_comes_out_of_run_scheduler_when_the_main_thread_has_ended(on_signal: Any) -> None:
    def worker() -> None:
        yield_now()
        standard.raise_signal(SIGNAL)
        record.append("worker goes on")
        sleep(1000)

    record: list[str] = []
    on_signal(stop)
    with pytest.raises(Stop):
        run_scheduler(lambda: Thread(target=worker).start())
    assert record == ["worker goes on"]


def test_without_a_scheduler_it_is_raised_there(on_signal: Any) -> None:
    on_signal(stop)
    with pytest.raises(Stop):
        standard.raise_signal(SIGNAL)


def test_a_handler_sees_the_main_thread(on_signal: Any, until: Any) -> None:
    record: list[object] = []

    def worker() -> None:
        standard.raise_signal(SIGNAL)
        record.append(greenthreads.current_thread().name)

    def main() -> None:
        scheduler: Any = greenthreads.current_thread()._task.scheduler
        thread = Thread(target=worker, name="worker")
        thread.start()
        thread.join()
        event.clear()
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), os.kill(os.getpid(), SIGNAL)))
        kernel.start()
        event.wait()
        kernel.join()

    def handler(*_: object) -> None:
        record.append(greenthreads.current_thread())
        event.set()

    event = Event()
    on_signal(handler)
    run_scheduler(main)
    me = greenthreads.main_thread()
    assert record == [me, "worker", me]
    assert run_scheduler(greenthreads.current_thread) is me


def test_what_is_installed_is_what_was_given() -> None:
    before = standard.getsignal(SIGNAL)
    assert signal.getsignal(SIGNAL) is before
    try:
        assert signal.signal(SIGNAL, stop) is before
        assert signal.getsignal(SIGNAL) is stop
        assert signal.signal(SIGNAL, signal.SIG_IGN) is stop
        assert signal.getsignal(SIGNAL) is standard.SIG_IGN
        with pytest.raises(TypeError, match="signal handler must be"):
            signal.signal(SIGNAL, "handler")
    finally:
        standard.signal(SIGNAL, before)


def test_the_handler_of_ctrl_c_is_the_interpreters_own() -> None:
    def worker() -> None:
        standard.raise_signal(signal.SIGINT)
        sleep(0)  # The handler has run here, in code of the program's own.

    def main() -> object:
        assert signal.getsignal(signal.SIGINT) is standard.default_int_handler
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, before)
        assert signal.getsignal(signal.SIGINT) is standard.default_int_handler
        thread = Thread(target=worker)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            thread.join()
        return before

    before = standard.getsignal(standard.SIGINT)
    try:
        standard.signal(standard.SIGINT, standard.default_int_handler)
        assert run_scheduler(main) is standard.default_int_handler
    finally:
        standard.signal(standard.SIGINT, before)


def test_sys_exit_in_a_handler_ends_an_unmodified_program(script: Any, tmp_path: Any) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        """
import os, signal, sys, threading, time

def worker():
    os.kill(os.getpid(), signal.SIGTERM)
    print("worker goes on")

def stop(number, frame):
    print(threading.current_thread().name, "stops")
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
threading.Thread(target=worker).start()
try:
    time.sleep(1000)
finally:
    print("main unwinds")
"""
    )
    done = script(f"""
        import subprocess, sys
        done = subprocess.run([sys.executable, "-m", "greenthreads", {str(program)!r}], capture_output=True, text=True)
        print((done.returncode, done.stdout, done.stderr))
    """)
    assert done.stdout == str((7, "MainThread stops\nworker goes on\nmain unwinds\n", "")) + "\n"
