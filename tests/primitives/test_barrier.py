"""`Barrier`: everybody meets, or everybody hears that it is broken."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from greenthreads import Barrier, BrokenBarrierError, Thread, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads._barrier import _Round
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


def test_any_threads_meet_again_and_again(pair: Any) -> None:
    barrier = Barrier(3)
    rounds = 5
    record: list[int] = []
    numbers: list[int] = []

    def work() -> None:
        for number in range(rounds):
            record.append(number)
            numbers.append(barrier.wait())

    def main() -> None:
        threads = [pair.start(work) for _ in range(2)]
        work()
        for thread in threads:
            thread.join()

    pair.run(main)
    # Nobody comes to the next round before all have come to this one.
    assert record == [number for number in range(rounds) for _ in range(3)]
    assert sorted(numbers) == [place for place in range(3) for _ in range(rounds)]
    assert (barrier.n_waiting, barrier.broken, barrier.parties) == (0, False, 3)


def test_the_action_is_called_once_a_round_before_anybody_goes(kind: Kind) -> None:
    record: list[str] = []
    barrier = Barrier(3, action=lambda: record.append("action"))

    def work() -> None:
        for _ in range(2):
            record.append("comes")
            barrier.wait()

    def main() -> None:
        threads = [Thread(target=work, kind=kind) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert record == ["comes", "comes", "comes", "action"] * 2


def break_it(barrier: Barrier, how: str, thread: Thread, clock: VirtualClock) -> None:
    if how == "abort":
        barrier.abort()
    elif how == "reset":
        barrier.reset()
    elif how == "interrupt":
        thread.interrupt()
    else:
        sleep(10)


@pytest.mark.parametrize("how", ["abort", "reset", "interrupt", "timeout"])
def test_it_breaks_for_all_who_wait(how: str) -> None:
    clock = VirtualClock()
    barrier = Barrier(4)
    record: list[object] = []

    def wait(name: str, timeout: float | None) -> None:
        try:
            record.append(barrier.wait(timeout))
        except (BrokenBarrierError, ThreadInterrupted) as error:
            record.append((name, type(error).__name__))

    def main() -> None:
        first = Thread(target=wait, args=("first", 10 if how == "timeout" else None))
        first.start()
        Thread(target=wait, args=("second", None)).start()
        yield_now()
        assert barrier.n_waiting == 2
        break_it(barrier, how, first, clock)
        sleep(1)
        record.append((barrier.broken, barrier.n_waiting))
        if barrier.broken:
            wait("late", None)
            barrier.reset()
        record.append((barrier.broken, barrier.n_waiting))

    Scheduler(clock=clock).run(main)
    first = ("first", "ThreadInterrupted" if how == "interrupt" else "BrokenBarrierError")
    late: list[object] = [] if how == "reset" else [("late", "BrokenBarrierError")]
    assert record == [
        first, ("second", "BrokenBarrierError"), (how != "reset", 0), *late, (False, 0),
    ]  # fmt: skip


def test_an_action_that_fails_breaks_it(pair: Any) -> None:
    record: list[str] = []
    barrier = Barrier(2, action=lambda: 1 // 0)

    def work() -> None:
        try:
            barrier.wait()
        except (BrokenBarrierError, ZeroDivisionError) as error:
            record.append(type(error).__name__)

    def main() -> None:
        thread = pair.start(work)
        work()
        thread.join()

    pair.run(main)
    assert (sorted(record), barrier.broken) == (["BrokenBarrierError", "ZeroDivisionError"], True)


def test_an_interrupt_that_comes_when_all_have_met_breaks_nothing() -> None:
    """The last to come lets all go; what comes afterwards is for the thread, not for the barrier."""
    barrier = Barrier(2)
    record: list[object] = []

    def wait() -> None:
        record.append(barrier.wait())
        try:
            yield_now()
        except ThreadInterrupted:
            record.append("interrupted after")

    def main() -> None:
        thread = Thread(target=wait)
        thread.start()
        yield_now()
        record.append(barrier.wait())
        thread.interrupt()

    run_scheduler(main)
    assert (record, barrier.broken) == ([1, 0, "interrupted after"], False)


def test_a_timeout_that_passes_when_all_have_met_breaks_nothing() -> None:
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    barrier = Barrier(2)
    record: list[object] = []

    def main() -> None:
        Thread(target=lambda: record.append(barrier.wait(5))).start()
        yield_now()
        record.append(barrier.wait())
        clock.advance(5)
        scheduler.timers.fire(clock.now())

    scheduler.run(main)
    assert (record, barrier.broken) == ([1, 0], False)


def test_who_comes_while_the_action_runs_stands_in_the_next_round() -> None:
    record: list[str] = []
    barrier = Barrier(2, action=lambda: sleep(0) or record.append("action"))

    def work(name: str) -> None:
        barrier.wait()
        record.append(name)

    def main() -> None:
        for name in "abcd":
            Thread(target=work, args=(name,)).start()

    run_scheduler(main)
    assert record == ["action", "b", "action", "d", "a", "c"]


def test_the_default_timeout_is_the_barrier_s() -> None:
    clock = VirtualClock()
    barrier = Barrier(2, timeout=3)

    def main() -> float:
        with pytest.raises(BrokenBarrierError):
            barrier.wait()
        barrier.reset()
        with pytest.raises(BrokenBarrierError):
            barrier.wait(5)
        return clock.now()

    assert Scheduler(clock=clock).run(main) == 8.0


@pytest.mark.parametrize(("how", "broken"), [("abort", True), ("reset", False)])
def test_what_comes_together_with_the_last_thread_counts_afterwards(
    monkeypatch: pytest.MonkeyPatch, how: str, broken: bool
) -> None:
    barrier = Barrier(1)
    following = _Round.following

    def late(meeting: _Round) -> _Round:
        # Another kernel thread may be here: the last one has come, and there is no next round yet.
        monkeypatch.undo()
        getattr(barrier, how)()
        return following(meeting)

    monkeypatch.setattr(_Round, "following", late)
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    assert barrier.broken is broken


@pytest.mark.parametrize("timeout", [0, -1])
def test_who_has_no_time_to_wait_breaks_it_at_once(timeout: float) -> None:
    def main() -> list[object]:
        barrier = Barrier(2)
        record: list[object] = []
        # It is ready, and would be there before any time has passed.
        other = Thread(target=lambda: record.append(barrier.broken), kind="user")
        other.start()
        with pytest.raises(BrokenBarrierError):
            barrier.wait(timeout)
        record.append("broken")
        other.join()
        return record

    assert run_scheduler(main) == ["broken", True]


def test_errors_are_threading_s(outcome: Any) -> None:
    for parties in (0, -1):
        assert outcome(Barrier, parties)[0] in (ValueError, outcome(threading.Barrier, parties)[0])
    assert Barrier(1).wait() == threading.Barrier(1).wait() == 0


def test_repr() -> None:
    barrier = Barrier(2)
    shown = [repr(barrier)]
    barrier.abort()
    shown.append(repr(barrier))
    name = f"greenthreads.Barrier at {id(barrier):#x}"
    assert shown == [f"<{name}: waiters=0/2>", f"<{name}: broken>"]
