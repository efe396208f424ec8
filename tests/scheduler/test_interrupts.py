"""Interrupts: an exception raised in a thread by another, whatever state it finds the thread in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from spawning import spawn

from scheduler import Scheduler, State, WaitQueue, current_task, run_scheduler, sleep, yield_now


class Interrupted(Exception):
    """What the tests interrupt with."""


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What leaves threads other than the main one."""
    seen: list[BaseException] = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, traceback: seen.append(error))
    return seen


def test_a_parked_thread_is_resumed_by_the_exception_itself(failures: list[BaseException]) -> None:
    error = Interrupted("why")
    queue = WaitQueue()

    def main() -> tuple[object, ...]:
        task = spawn(lambda: queue.park("for ever"))
        yield_now()
        task.interrupt(error)
        before = (task.state, len(queue))
        task.join()
        return before

    assert run_scheduler(main) == (State.READY, 0)
    assert failures == [error]


def test_interrupted_threads_run_in_the_order_of_their_interrupts_among_the_ready() -> None:
    queue = WaitQueue()
    record: list[str] = []

    def waiter(name: str) -> None:
        try:
            queue.park("a reason")
            record.append(f"{name} woken")
        except Interrupted:
            record.append(f"{name} interrupted")

    def main() -> None:
        a, b, c, d = [spawn(lambda n=n: waiter(n)) for n in "abcd"]
        yield_now()
        c.interrupt(Interrupted())
        queue.unpark()
        b.interrupt(Interrupted())
        queue.unpark()
        assert [a.done, d.done] == [False, False]

    run_scheduler(main)
    assert record == ["c interrupted", "a woken", "b interrupted", "d woken"]


def test_a_ready_thread_is_interrupted_where_it_yielded() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            yield_now()
            record.append("never")
        except Interrupted:
            record.append("interrupted")
        yield_now()
        record.append("goes on")

    def main() -> None:
        task = spawn(worker)
        yield_now()
        task.interrupt(Interrupted())
        task.join()

    run_scheduler(main)
    assert record == ["interrupted", "goes on"]


def test_a_new_thread_ends_without_running(failures: list[BaseException]) -> None:
    record: list[str] = []
    error = Interrupted()

    def main() -> State:
        task = spawn(lambda: record.append("never"))
        task.interrupt(error)
        task.join()
        return task.state  # type: ignore[no-any-return]

    assert run_scheduler(main) is State.DONE
    assert (record, failures) == ([], [error])


@pytest.mark.parametrize("opportunity", [yield_now, lambda: sleep(0), lambda: sleep(1), lambda: WaitQueue().park("")])
@pytest.mark.parametrize("company", [0, 1, 200])
def test_a_thread_that_interrupts_itself_goes_on_to_its_next_opportunity(
    opportunity: Callable[[], object], company: int, run_virtually: Callable[..., Any]
) -> None:
    record: list[str] = []

    def main() -> None:
        for _ in range(company):
            spawn(yield_now)
        current_task().interrupt(Interrupted())
        record.append("still running")
        try:
            opportunity()
        except Interrupted:
            record.append("interrupted")
        opportunity_passed = spawn(lambda: record.append("other"))
        opportunity_passed.join()

    run_virtually(main)
    assert record == ["still running", "interrupted", "other"]


def test_nothing_happens_to_a_thread_that_has_ended() -> None:
    def main() -> object:
        task = spawn(lambda: None)
        task.join()
        task.interrupt(Interrupted())
        yield_now()
        return task.pending

    assert run_scheduler(main) is None


def test_a_second_interrupt_before_the_first_was_raised_is_dropped() -> None:
    record: list[str] = []

    def worker() -> None:
        for _ in range(2):
            try:
                WaitQueue().park("a reason", timeout=0)
                record.append("timed out")
            except Interrupted as error:
                record.append(str(error))

    def main() -> None:
        task = spawn(worker)
        yield_now()
        task.interrupt(Interrupted("first"))
        task.interrupt(Interrupted("second"))
        task.join()

    run_scheduler(main)
    assert record == ["first", "timed out"]


def test_an_interrupt_from_a_kernel_thread_wakes_a_sleeping_scheduler(until: Any) -> None:
    def main() -> str:
        me = current_task()
        scheduler = me.scheduler
        assert scheduler is not None
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), me.interrupt(Interrupted("hello"))))
        kernel.start()
        try:
            sleep(1000)
        except Interrupted as error:
            return str(error)
        finally:
            kernel.join()
        return "slept"

    assert run_scheduler(main) == "hello"


def test_interrupts_between_schedulers(until: Any) -> None:
    record: list[str] = []
    tasks: list[Any] = []

    def inner() -> None:
        tasks.append(current_task())
        try:
            sleep(1000)
        except Interrupted:
            record.append("interrupted")

    def main() -> None:
        other = threading.Thread(target=run_scheduler, args=(inner,))
        other.start()
        until(lambda: tasks and tasks[0].state is State.PARKED)
        tasks[0].interrupt(Interrupted())
        other.join()

    run_scheduler(main)
    assert record == ["interrupted"]


def test_an_interrupt_from_a_posted_call_and_one_from_a_raw_greenlet() -> None:
    from greenlet import greenlet

    record: list[str] = []

    def sleeper() -> None:
        try:
            sleep(1000)
        except Interrupted as error:
            record.append(str(error))

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        first, second = spawn(sleeper), spawn(sleeper)
        yield_now()
        scheduler.post(lambda: first.interrupt(Interrupted("posted")))
        first.join()
        greenlet(lambda: second.interrupt(Interrupted("from a greenlet"))).switch()
        second.join()

    run_scheduler(main)
    assert record == ["posted", "from a greenlet"]


def test_a_joiner_can_be_interrupted_and_the_joined_thread_goes_on() -> None:
    record: list[str] = []

    def main() -> None:
        joined = spawn(lambda: (sleep(0), sleep(0), sleep(0), record.append("joined")))
        joiner = spawn(lambda: join(joined))
        yield_now()
        joiner.interrupt(Interrupted())

    def join(task: Any) -> None:
        try:
            task.join()
        except Interrupted:
            record.append(f"interrupted, {len(task.joiners)} wait")

    run_scheduler(main)
    assert record == ["interrupted, 0 wait", "joined"]


def test_interrupting_the_main_user_thread() -> None:
    def main() -> None:
        me = current_task()
        spawn(lambda: me.interrupt(Interrupted("in main")))
        sleep(1000)

    with pytest.raises(Interrupted, match=r"^in main$"):
        run_scheduler(main)


def test_an_interrupt_that_was_never_raised_ends_with_its_thread() -> None:
    record: list[object] = []

    def main() -> None:
        def last() -> None:
            current_task().interrupt(Interrupted())

        spawn(last).join()
        # The next thread runs on the same stack.
        spawn(lambda: (yield_now(), record.append("undisturbed"))).join()

    run_scheduler(main)
    assert record == ["undisturbed"]


def test_an_interrupt_is_caught_in_a_finally_that_parks_again(run_virtually: Callable[..., Any]) -> None:
    record: list[object] = []

    def worker() -> None:
        try:
            sleep(10)
        except Interrupted:
            record.append("interrupted")
        finally:
            sleep(3)
            record.append(current_task().now())

    def main() -> None:
        task = spawn(worker)
        sleep(1)
        task.interrupt(Interrupted())

    run_virtually(main)
    assert record == ["interrupted", 4.0]


def test_an_interrupted_sleep_leaves_no_timer() -> None:
    scheduler = Scheduler()
    record: list[str] = []

    def sleeper() -> None:
        try:
            sleep(1000)
        except Interrupted:
            record.append("interrupted")

    def main() -> int:
        task = spawn(sleeper)
        yield_now()
        task.interrupt(Interrupted())
        task.join()
        return len(scheduler.timers)

    assert scheduler.run(main) == 0
    assert record == ["interrupted"]
