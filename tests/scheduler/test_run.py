"""`run_scheduler`: what it returns and raises, what it waits for, and what it leaves behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from spawning import spawn

from scheduler import (
    Deadlock,
    Scheduler,
    SchedulerError,
    State,
    WaitQueue,
    current_task,
    run_scheduler,
    sleep,
    yield_now,
)


def test_the_result_is_main_s() -> None:
    def main(*args: object, **kwargs: object) -> tuple[object, object]:
        return args, kwargs

    assert run_scheduler(main, 1, 2, main_=3) == ((1, 2), {"main_": 3})


def test_arguments_may_have_the_names_of_the_engine_s_own_parameters() -> None:
    def main(**kwargs: object) -> object:
        return kwargs

    assert run_scheduler(main, main=1, self=2) == {"main": 1, "self": 2}


@pytest.mark.parametrize("kind_of_error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_exception_is_main_s_own_object_with_its_traceback(kind_of_error: type[BaseException]) -> None:
    error = kind_of_error("from main")

    def main() -> None:
        raise error

    with pytest.raises(kind_of_error) as raised:
        run_scheduler(main)
    assert raised.value is error
    assert raised.traceback[-1].name == "main"


def test_waits_for_threads_that_outlive_main_and_for_those_they_start() -> None:
    record: list[str] = []

    def main() -> str:
        spawn(first)
        record.append("main")
        return "result"

    def first() -> None:
        yield_now()
        spawn(second)
        record.append("first")

    def second() -> None:
        for _ in range(3):
            yield_now()
        record.append("second")

    record.append(run_scheduler(main))
    assert record == ["main", "first", "second", "result"]


def test_main_s_exception_also_waits_for_the_other_threads() -> None:
    record: list[str] = []

    def main() -> None:
        spawn(other)
        raise ValueError("main is through")

    def other() -> None:
        yield_now()
        record.append("other")

    with pytest.raises(ValueError, match="main is through"):
        run_scheduler(main)
    assert record == ["other"]


def test_an_exception_in_another_thread_is_reported_and_ends_that_thread_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record: list[object] = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, traceback: record.append((kind, str(error))))

    def main() -> str:
        task = spawn(lambda: int("x"))
        task.join()
        return "result"

    record.append(run_scheduler(main))
    assert record == [(ValueError, "invalid literal for int() with base 10: 'x'"), "result"]


def test_runs_again_and_again_on_one_kernel_thread() -> None:
    record: list[int] = []
    for number in range(100):
        run_scheduler(lambda: spawn(lambda: record.append(number)))  # noqa: B023
    assert record == list(range(100))


def test_inside_itself_it_is_a_clear_error() -> None:
    text = (
        "run_scheduler() is running on this kernel thread already: start threads instead of a second scheduler, or "
        "call it from another kernel thread"
    )
    record: list[str] = []

    def attempt() -> None:
        with pytest.raises(SchedulerError) as raised:
            run_scheduler(lambda: record.append("never"))
        record.append(str(raised.value))

    def main() -> None:
        attempt()
        spawn(attempt).join()
        # Not in the way of what goes on.
        yield_now()
        record.append("end")

    run_scheduler(main)
    assert record == [text, text, "end"]


def test_another_kernel_thread_may_run_one_meanwhile() -> None:
    record: list[str] = []

    def main() -> None:
        other = threading.Thread(target=run_scheduler, args=(inner,))
        other.start()
        other.join()
        record.append("main")

    def inner() -> None:
        spawn(lambda: record.append("thread of the inner"))
        yield_now()
        record.append("inner")

    run_scheduler(main)
    assert record == ["thread of the inner", "inner", "main"]


def test_a_scheduler_is_used_once() -> None:
    scheduler = Scheduler()
    assert scheduler.run(lambda: 1) == 1
    with pytest.raises(SchedulerError, match=r"^this Scheduler has run before: make a new one$"):
        scheduler.run(lambda: 2)


def test_nothing_starts_in_a_scheduler_that_has_ended() -> None:
    scheduler = Scheduler()
    scheduler.run(lambda: None)
    with pytest.raises(RuntimeError, match=r"^can't start new thread: its scheduler is ending$"):
        scheduler.spawn(lambda: None)
    assert scheduler.tasks == {}


def test_a_thread_can_be_started_from_outside_while_any_other_keeps_the_scheduler_alive() -> None:
    """At whatever moment: main has ended, and the loop is about to look who is left."""
    scheduler = Scheduler()
    record: list[str] = []

    class Tasks(dict[Any, None]):
        """Starts a thread at the moment when the scheduler looks."""

        def __reversed__(self) -> Any:
            if scheduler.main.done and not record:
                record.append("the scheduler looks")
                scheduler.spawn(lambda: record.append("late"))
            return super().__reversed__()

    def main() -> None:
        scheduler.tasks = Tasks(scheduler.tasks)
        scheduler.spawn(other)

    def other() -> None:
        for _ in range(300):
            yield_now()
        record.append("other")

    scheduler.run(main)
    assert record == ["the scheduler looks", "late", "other"]


def test_before_any_scheduler_runs_blocking_calls_are_the_kernel_thread_s_own() -> None:
    yield_now()
    sleep(0)
    queue = WaitQueue()
    assert queue.park("nothing", timeout=0.001) is False
    assert len(queue) == 0


def test_a_chain_of_threads_each_started_by_the_last_does_not_recurse() -> None:
    depth = 3000
    record: list[int] = []

    def link(number: int) -> None:
        record.append(number)
        if number + 1 < depth:
            task = spawn(lambda: link(number + 1))
            task.join()

    run_scheduler(link, 0)
    assert record == list(range(depth))


def test_a_chain_without_joins_does_not_recurse_either() -> None:
    depth = 3000
    record: list[int] = []

    def link(number: int) -> None:
        record.append(number)
        if number + 1 < depth:
            spawn(lambda: link(number + 1))

    run_scheduler(link, 0)
    assert record == list(range(depth))


def test_no_greenlet_and_no_record_outlives_the_run(until: Any, greenlets: Callable[[], int]) -> None:
    ended: list[weakref.ref[Any]] = []

    def main() -> None:
        tasks = [spawn(yield_now) for _ in range(50)]
        daemon = spawn(lambda: WaitQueue().park("for ever"), daemon=True)
        for task in tasks:
            task.join()
        ended.extend(weakref.ref(task) for task in (*tasks, daemon, current_task()))
        ended.append(weakref.ref(current_task().scheduler))

    run_scheduler(lambda: None)
    before = greenlets()
    run_scheduler(main)
    until(lambda: greenlets() <= before)
    assert [reference() for reference in ended] == [None] * 53


def test_more_threads_at_once_than_stacks_are_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.loop._MOST_IDLE", 3)
    record: list[int] = []

    def worker(number: int) -> None:
        yield_now()
        record.append(number)
        yield_now()

    def main() -> None:
        for _ in range(3):
            tasks = [spawn(lambda n=n: worker(n)) for n in range(10)]
            for task in tasks:
                task.join()

    run_scheduler(main)
    assert record == 3 * list(range(10))


def test_a_failure_of_main_is_not_lost_in_a_deadlock_that_follows() -> None:
    def main() -> None:
        spawn(lambda: WaitQueue().park("what never comes"), name="stuck")
        raise ValueError("the cause")

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [(row.thread, row.what) for row in raised.value.threads] == [("stuck", "what never comes")]
    assert repr(raised.value.__context__) == "ValueError('the cause')"


def test_states_of_a_task() -> None:
    record: list[State] = []
    queue = WaitQueue()

    def main() -> None:
        task = spawn(worker)
        record.append(task.state)
        yield_now()
        record.append(task.state)
        yield_now()
        record.append(task.state)
        queue.unpark()
        record.append(task.state)
        task.join()
        record.append(task.state)

    def worker() -> None:
        record.append(current_task().state)  # type: ignore[attr-defined]
        yield_now()
        queue.park("main")

    run_scheduler(main)
    assert record == [
        State.NEW, State.RUNNING, State.READY, State.PARKED, State.READY, State.DONE,
    ]  # fmt: skip
