"""Timeout, wakeup and interrupt race for a parked thread: in every order, exactly one wins and the losers do nothing.

The order is made, not hoped for: a second thread does all that comes while the first is parked, by direct calls.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import scheduler.kernel
from scheduler import Scheduler, VirtualClock, WaitQueue, current_task, run_scheduler, sleep, yield_now
from scheduler.task import GONE, Task


class Interrupted(Exception):
    """What the tests interrupt with."""


ORDERS = [order for size in (1, 2, 3) for order in itertools.permutations(["wakeup", "timeout", "interrupt"], size)]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_user_thread_in_a_queue(order: tuple[str, ...]) -> None:
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    queue = WaitQueue()
    record: list[object] = []

    def waiter() -> None:
        try:
            record.append("woken" if queue.park("a reason", timeout=5) else "timed out")
        except Interrupted:
            record.append("interrupted")
        # An interrupt that lost is kept, and raised at the next opportunity; all else has left no trace.
        try:
            record.append(WaitQueue().park("a reason", timeout=5))
        except Interrupted:
            record.append("interrupted after")

    def main() -> None:
        task = scheduler.spawn(waiter)
        yield_now()
        for event in order:
            if event == "wakeup":
                record.append(len(queue.unpark()))
            elif event == "timeout":
                clock.advance(5)
                scheduler.timers.fire(clock.now())
            else:
                task.interrupt(Interrupted())
        record.append([len(queue), len(scheduler.timers), list(scheduler.ready).count(task)])
        task.join()

    scheduler.run(main)
    first = order[0]
    effect = {"wakeup": "woken", "timeout": "timed out", "interrupt": "interrupted"}[first]
    late = "interrupted after" if "interrupt" in order[1:] else False
    # How many threads the wakeup woke, if there was one.
    wakeups = [] if "wakeup" not in order else [int(first == "wakeup")]
    timers = 1 if first == "wakeup" and "timeout" not in order else 0
    assert record == [*wakeups, [0, timers, 1], effect, late]


@pytest.mark.parametrize("order", [o for o in ORDERS if "wakeup" not in o], ids="-".join)
def test_a_user_thread_that_sleeps(order: tuple[str, ...]) -> None:
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    record: list[object] = []

    def sleeper() -> None:
        try:
            sleep(5)
            record.append("slept")
        except Interrupted:
            record.append("interrupted")
        try:
            sleep(5)
            record.append("slept")
        except Interrupted:
            record.append("interrupted")

    def main() -> None:
        task = scheduler.spawn(sleeper)
        yield_now()
        for event in order:
            if event == "timeout":
                clock.advance(5)
                scheduler.timers.fire(clock.now())
            else:
                task.interrupt(Interrupted())
        record.append([len(scheduler.timers), list(scheduler.ready).count(task)])
        task.join()
        record.append(clock.now())

    scheduler.run(main)
    assert (
        record
        == {
            ("timeout",): [[0, 1], "slept", "slept", 10.0],
            ("interrupt",): [[0, 1], "interrupted", "slept", 5.0],
            ("timeout", "interrupt"): [[0, 1], "slept", "interrupted", 5.0],
            ("interrupt", "timeout"): [[0, 1], "interrupted", "slept", 10.0],
        }[order]
    )


def test_a_thread_that_interrupts_itself_after_a_wakeup_keeps_the_wakeup() -> None:
    """A kernel thread may hand over a lock after the waiter stood in the queue, and before it parks."""
    record: list[object] = []

    def main() -> None:
        me = current_task()
        me.interrupt(Interrupted())
        waiters: OrderedDict[Task, None] = OrderedDict({me: None})
        # What a releasing kernel thread does.
        assert waiters.pop(me, GONE) is None
        me.unpark()
        record.append(me.park(waiters, "a lock"))
        try:
            yield_now()
        except Interrupted:
            record.append("interrupted at the next opportunity")

    run_scheduler(main)
    assert record == [True, "interrupted at the next opportunity"]


def test_an_interrupt_that_lost_is_raised_by_a_yield_as_well_as_by_a_park() -> None:
    queue = WaitQueue()
    record: list[object] = []

    def waiter() -> None:
        record.append(queue.park("a reason"))
        try:
            yield_now()
        except Interrupted:
            record.append("interrupted")
        yield_now()
        record.append("end")

    def main() -> None:
        task = current_task().scheduler.spawn(waiter)  # type: ignore[union-attr]
        yield_now()
        queue.unpark()
        task.interrupt(Interrupted())
        task.join()

    run_scheduler(main)
    assert record == [True, "interrupted", "end"]


def test_a_wakeup_for_the_wait_before_does_not_end_the_next_one(run_virtually: Callable[..., Any]) -> None:
    """A stack, a task and a queue that are used again carry nothing over from a timed-out wait."""
    queue = WaitQueue()
    record: list[object] = []

    def waiter(number: int) -> None:
        record.append((number, queue.park("a reason", timeout=1)))
        record.append((number, queue.park("a reason", timeout=1)))

    def main() -> None:
        spawn = current_task().scheduler.spawn  # type: ignore[union-attr]
        for number in range(3):
            # Each runs on the stack that the one before has left.
            task = spawn(lambda: waiter(number))  # noqa: B023
            sleep(1.5)
            queue.unpark()
            task.join()
            assert queue.unpark() == []

    run_virtually(main)
    assert record == [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)]


class Bell:
    """Stands in for the lock that a kernel thread sleeps on: what happens while it sleeps is scripted."""

    def __init__(self, *script: Callable[[], object]) -> None:
        self.script = list(script)
        self.rung = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        answer = self.script.pop(0)()
        if answer is None:
            return self.rung > 0
        return bool(answer)

    def release(self) -> None:
        self.rung += 1


@pytest.fixture
def kernel() -> Any:
    """The record of the calling kernel thread."""
    return current_task()


def test_a_kernel_thread_woken_before_its_deadline(kernel: Any) -> None:
    queue = WaitQueue()
    kernel._bell = Bell(lambda: queue.unpark() and None)
    assert queue.park("a reason", timeout=1000) is True
    assert (len(queue), kernel.waiters, kernel.wait) == (0, None, None)


def test_a_kernel_thread_whose_deadline_passes_first(kernel: Any) -> None:
    queue = WaitQueue()
    kernel._bell = bell = Bell(lambda: False)
    assert queue.park("a reason", timeout=0) is False
    assert (queue.unpark(), bell.rung) == ([], 0)


def test_a_kernel_thread_whose_deadline_passes_between_the_waker_s_choice_and_its_ring(kernel: Any) -> None:
    queue = WaitQueue()
    # Chosen, but the ring has not come when the deadline has passed: it waits for the ring.
    kernel._bell = Bell(lambda: bool(queue.waiters.pop(kernel)), lambda: kernel.unpark() or True)
    assert queue.park("a reason", timeout=0) is True


def test_a_kernel_thread_woken_early_by_the_system_goes_on_waiting(kernel: Any) -> None:
    queue = WaitQueue()
    kernel._bell = Bell(lambda: False, lambda: False, lambda: queue.unpark() and None)
    assert queue.park("a reason", timeout=1000) is True


@pytest.mark.parametrize("timeout", [None, 0, 1000])
def test_a_kernel_thread_interrupted_while_it_waits(kernel: Any, timeout: float | None) -> None:
    queue = WaitQueue()
    kernel._bell = Bell(lambda: kernel.interrupt(Interrupted("now")))
    with pytest.raises(Interrupted, match=r"^now$"):
        queue.park("a reason", timeout)
    assert (len(queue), kernel.pending, kernel.waiters) == (0, None, None)
    assert queue.unpark() == []


def test_a_kernel_thread_interrupted_as_its_deadline_passes(kernel: Any) -> None:
    queue = WaitQueue()

    def chosen() -> bool:
        # The interrupter has taken the thread out of the queue, and has not rung yet.
        queue.waiters.pop(kernel)
        return False

    def rung() -> bool:
        kernel.pending = Interrupted()
        kernel.unpark()
        return True

    kernel._bell = Bell(chosen, rung)
    with pytest.raises(Interrupted):
        queue.park("a reason", timeout=0)


def test_a_signal_handler_that_raises_in_a_waiting_kernel_thread(kernel: Any) -> None:
    queue = WaitQueue()

    def handler() -> None:
        raise KeyboardInterrupt

    kernel._bell = Bell(handler)
    with pytest.raises(KeyboardInterrupt):
        queue.park("a reason")
    assert (len(queue), queue.unpark(), kernel.waiters) == (0, [], None)


def test_a_signal_handler_that_raises_after_the_wakeup_gives_back_what_was_handed_over(kernel: Any) -> None:
    waiters: OrderedDict[Task, None] = OrderedDict({kernel: None})
    record: list[str] = []

    def handler() -> None:
        waiters.pop(kernel)
        kernel.unpark()
        raise KeyboardInterrupt

    kernel._bell = Bell(handler)
    with pytest.raises(KeyboardInterrupt):
        kernel.park(waiters, "a reason", None, lambda: record.append("undone"))
    assert record == ["undone"]


def test_a_signal_handler_that_raises_amid_the_wakeup_waits_for_its_second_half(
    kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiters: OrderedDict[Task, None] = OrderedDict({kernel: None})
    record: list[str] = []

    def ring_late() -> None:
        record.append("ring")
        kernel.unpark()

    # What the waiting thread calls to let the waker have its turn.
    monkeypatch.setattr(scheduler.kernel, "_let_others_run", ring_late)

    def handler() -> None:
        waiters.pop(kernel)
        raise KeyboardInterrupt

    kernel._bell = Bell(handler)
    with pytest.raises(KeyboardInterrupt):
        kernel.park(waiters, "a reason", None, lambda: record.append("undone"))
    assert record == ["ring", "undone"]


def test_a_ring_for_one_wait_does_not_end_the_next(kernel: Any) -> None:
    queue = WaitQueue()
    kernel._bell = first = Bell(lambda: queue.unpark() and None)
    assert queue.park("a reason") is True
    assert kernel._bell is not first
    first.release()
    assert queue.park("a reason", timeout=0) is False
