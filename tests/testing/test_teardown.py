"""The end of an execution, whatever its threads do; and that nothing is left of it."""

from __future__ import annotations

import _thread
import gc
import queue
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from plain import explore, replay

import greenthreads.testing
from greenthreads.testing._session import Session
from greenthreads.testing._watchdog import Watchdog
from scheduler import fork
from scheduler.controlled import ControlledTask
from scheduler.strategy import Strategy


def start(*bodies: Any, daemon: bool = False) -> list[threading.Thread]:
    threads = [threading.Thread(target=body, daemon=daemon) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def test_finally_blocks_run_and_may_use_primitives() -> None:
    record: list[str] = []
    lock = threading.RLock()

    def main() -> None:
        record.clear()
        never = threading.Event()
        items: queue.Queue[int] = queue.Queue()

        def blocked() -> None:
            try:
                with lock:
                    never.wait()
            finally:
                items.put(1)
                time.sleep(5)
                with lock:
                    record.append(f"blocked {items.get()}")

        def generator() -> Any:
            with lock:
                yield
                record.append("not reached")

        def waits() -> None:
            gen = generator()
            next(gen)
            try:
                threading.Condition(lock).wait()
            finally:
                gen.close()
                record.append("closed")

        start(blocked)[0].join(1)
        start(waits)
        never.wait()

    found = explore(main, max_executions=20).failure
    assert found is not None
    assert found.kind == "deadlock"
    assert "not reached" not in record
    with lock:
        assert record
    assert explore(lambda: lock.acquire(blocking=False) or pytest.fail("held"), max_executions=3).failure is None


def test_a_thread_that_is_started_on_the_way_out_is_refused() -> None:
    refused: list[str] = []

    def main() -> None:
        def body() -> None:
            try:
                threading.Event().wait()
            finally:
                try:
                    threading.Thread(target=print).start()
                except RuntimeError as error:
                    refused.append(str(error))

        start(body, daemon=True)

    assert explore(main, strategy="dfs").failure is None
    assert "can't start new thread: its scheduler is ending" in refused


@pytest.mark.parametrize("wait", ["block", "sleep", "step"])
def test_a_thread_that_will_not_end_is_left_behind_and_that_is_said(wait: str) -> None:
    def main() -> None:
        items: queue.Queue[int] = queue.Queue()

        def stubborn() -> None:
            while True:
                try:
                    if wait == "block":
                        items.get()
                    elif wait == "sleep":
                        time.sleep(1)
                    else:
                        items.qsize()
                except BaseException:
                    pass

        start(stubborn, daemon=True)
        time.sleep(0)

    before = len(fork.vanished)
    found = explore(main, strategy="random", max_executions=3)
    left = len(fork.vanished) - before
    del fork.vanished[before:]
    assert found.failure is None
    assert 1 <= left <= 3
    assert (
        f"{left} thread{'s' if left > 1 else ''} would not end with the execution, and stayed behind" in found.coverage
    )


def test_a_thread_that_polls_on_its_way_out_is_told_again() -> None:
    record: list[str] = []

    def main() -> None:
        done = threading.Event()

        def body() -> None:
            try:
                threading.Event().wait()
            finally:
                try:
                    while not done.wait(0.1):
                        pass
                finally:
                    record.append("out")

        start(body, daemon=True)
        time.sleep(1)

    found = explore(main, max_executions=3)
    assert found.failure is None
    assert "behind" not in found.coverage
    # One execution comes before those that are counted.
    assert record == ["out"] * (found.executions + 1)


def test_a_loop_without_a_step_is_a_livelock_at_its_line() -> None:
    def main(with_a_step: bool) -> None:
        flag: list[int] = []
        threads = start(lambda: flag.append(1))
        while not flag:
            if with_a_step:
                time.sleep(0)
        threads[0].join()

    found = explore(lambda: main(False), strategy="round_robin", stuck_after=0.2).failure
    assert found is not None
    assert found.kind == "livelock"
    first = test_a_loop_without_a_step_is_a_livelock_at_its_line.__code__.co_firstlineno
    lines = [f"at test_teardown.py:{first + at} in main" for at in (4, 5)]
    assert any(line in str(found.exception) for line in lines)
    assert "no step for 0.2 seconds of real time" in str(found.exception)
    assert greenthreads.testing.explore(lambda: main(True), strategy="dpor").exhausted


@pytest.mark.parametrize("goes_on", ["with steps", "without"])
def test_a_loop_that_swallows_what_is_to_end_it_is_left_behind(goes_on: str) -> None:
    def main() -> None:
        def forever(flag: list[int]) -> None:
            while not flag:
                pass

        def spin() -> None:
            while True:
                try:
                    forever([])
                except BaseException:
                    if goes_on == "with steps":
                        threading.Lock().locked()

        start(spin)[0].join()

    before = len(fork.vanished)
    found = explore(main, strategy="round_robin", stuck_after=0.1)
    left = len(fork.vanished) - before
    del fork.vanished[before:]
    assert found.failure is not None
    assert found.failure.kind == "livelock"
    assert "no step for 0.1 seconds of real time" in str(found.failure.exception)
    # One that takes steps may be told just where it does, and then it ends.
    assert left > 0 or goes_on == "with steps"

    # What was left in the middle of an exception has not spoiled the next ones.
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError):
        recurse()


def test_without_a_watchdog_a_long_computation_is_just_long() -> None:
    def main() -> None:
        end = gc.get_count()
        for _ in range(10_000):
            end = (*end[:2], 0)

    assert explore(main, max_executions=2, stuck_after=None).failure is None


def test_an_exception_in_a_thread_of_the_low_level_module_is_a_failure() -> None:
    def main(error: type[BaseException]) -> None:
        def body() -> None:
            raise error

        _thread.start_new_thread(body, ())
        time.sleep(1)

    found = explore(lambda: main(KeyError)).failure
    assert found is not None
    assert isinstance(found.exception, KeyError)
    with pytest.raises(KeyError):
        replay(lambda: main(KeyError), found.trace)
    assert explore(lambda: main(SystemExit)).failure is None
    assert sys.unraisablehook is not None


def test_what_executions_made_is_gone_afterwards() -> None:
    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []

    def main() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))

        def body() -> None:
            me = threading.current_thread()
            me.cycle = (me, thing)  # type: ignore[attr-defined]
            try:
                raise ValueError(thing)
            except ValueError as error:
                me.error = error  # type: ignore[attr-defined]
            threading.Event().wait()

        start(body, body, daemon=True)
        time.sleep(1)

    def count() -> int:
        gc.collect()
        return sum(type(each) is ControlledTask for each in gc.get_objects())

    before, idle = count(), len(fork.vanished)
    explore(main, strategy="random", max_executions=300)
    assert count() == before
    assert len(fork.vanished) == idle
    assert [ref for ref in things if ref() is not None] == []


def test_classes_that_executions_made_go_while_others_run() -> None:
    alive: weakref.WeakSet[type] = weakref.WeakSet()
    most = 0

    def main() -> None:
        nonlocal most

        class Counter:
            value = 0

            def increment(self) -> None:
                self.value += 1

        alive.add(Counter)
        most = max(most, len(alive))
        counter = Counter()
        start(counter.increment, counter.increment)

    greenthreads.testing.explore(main, strategy="random", max_executions=500, max_seconds=None)
    assert most < 250
    gc.collect()
    assert len(alive) == 0


def test_finalizers_may_use_primitives() -> None:
    lock = threading.Lock()
    record: list[str] = []

    def main() -> None:
        class Owner:
            def __init__(self) -> None:
                self.me = self
                weakref.finalize(self, finish)

            def __del__(self) -> None:
                with lock:
                    record.append("del")

        def finish() -> None:
            with lock:
                record.append("finalized")

        start(Owner, Owner)

    assert explore(main, max_executions=5).failure is None
    gc.collect()
    assert record.count("del") == record.count("finalized") > 0


def test_the_main_thread_may_be_unwound_while_it_tells_workers_that_the_program_ends() -> None:
    def main() -> None:
        pool: Any = ThreadPoolExecutor(1)

        def look() -> None:
            if pool._shutdown and pool._work_queue.empty():
                raise ValueError("told, and not yet sent")

        pool.submit(int)
        threading.Thread(target=look).start()

    failure = explore(main, strategy="dfs").failure
    assert failure is not None
    assert str(failure.exception) == "told, and not yet sent"


def test_a_strategy_may_take_its_time_to_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    interrupted: list[Watchdog] = []
    real = threading.Lock

    class Looks:
        """The lock at which the watchdog waits between two looks."""

        def __init__(self) -> None:
            lock = real()
            self.release = lock.release
            self._acquire = lock.acquire

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            looks.append(timeout)
            return self._acquire(blocking, timeout)

    class Slow(Strategy):
        def end(self, trace: object, waiting: object) -> None:
            enough = len(looks) + 4
            while len(looks) < enough:
                pass

    monkeypatch.setattr("greenthreads.patch._allocate_lock", Looks)
    monkeypatch.setattr(Watchdog, "_interrupt", lambda self: interrupted.append(self))  # noqa: PLW0108, a method
    with Session(lambda: None, stuck_after=0.0001) as session:
        session.run(Slow())
    assert interrupted == []


def test_ctrl_c_is_not_lost_where_it_comes_while_threads_are_unwound() -> None:
    """As if it were pressed there: nothing in the next execution would find it again."""

    def main() -> None:
        never = threading.Event()

        def waits() -> None:
            try:
                never.wait()
            finally:
                raise KeyboardInterrupt

        start(waits, daemon=True)

    with pytest.raises(KeyboardInterrupt):
        explore(main)


def test_ctrl_c_is_not_lost_where_it_comes_as_a_thread_s_end_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> None:
        start(threading.Event().wait, daemon=True)

    def finish(_task: ControlledTask) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ControlledTask, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        explore(main)
