"""Deadlines: who fires, in which order, and what a cancelled one costs."""

from __future__ import annotations

import pytest

from scheduler.timers import Timers


class Probe:
    """Notes that it expired."""

    def __init__(self, name: object, record: list[object]) -> None:
        self.name = name
        self.record = record

    def expire(self) -> None:
        self.record.append(self.name)


def test_fires_what_is_due_earliest_first_and_equal_ones_in_the_order_set() -> None:
    timers, record = Timers(lambda: None), []
    for name, deadline in [("c", 2.0), ("a", 1.0), ("later", 3.0), ("d", 2.0), ("b", 1.0)]:
        timers.add(deadline, Probe(name, record))
    timers.fire(0.5)
    assert record == []
    timers.fire(2.0)
    assert record == ["a", "b", "c", "d"]
    assert timers.next_deadline() == 3.0
    timers.fire(2.5)
    assert len(timers) == 1
    timers.fire(10)
    assert record == ["a", "b", "c", "d", "later"]
    assert (len(timers), timers.next_deadline()) == (0, None)


def test_a_cancelled_timer_does_not_fire_and_a_fired_one_cannot_be_cancelled() -> None:
    timers, record = Timers(lambda: None), []
    first, second = timers.add(1, Probe("first", record)), timers.add(1, Probe("second", record))
    assert (first in timers, second in timers) == (True, True)
    assert timers.cancel(first) is True
    assert timers.cancel(first) is False
    timers.fire(1)
    assert record == ["second"]
    assert timers.cancel(second) is False
    assert (first in timers, second in timers) == (False, False)


def test_the_next_deadline_is_of_somebody_who_still_waits() -> None:
    timers, record = Timers(lambda: None), []
    early, late = timers.add(1, Probe("early", record)), timers.add(2, Probe("late", record))
    assert timers.next_deadline() == 1
    timers.cancel(early)
    assert timers.next_deadline() == 2
    timers.cancel(late)
    assert timers.next_deadline() is None


def test_an_expiry_may_cancel_or_set_another() -> None:
    timers, record = Timers(lambda: None), []

    class Meddler(Probe):
        def expire(self) -> None:
            super().expire()
            timers.cancel(victim)
            timers.add(1, Probe("set meanwhile", record))

    timers.add(1, Meddler("meddler", record))
    victim = timers.add(1, Probe("victim", record))
    timers.fire(1)
    assert record == ["meddler", "set meanwhile"]


@pytest.mark.parametrize("waiting", [0, 1, 1000])
def test_cancelled_timers_do_not_pile_up(waiting: int) -> None:
    timers, record = Timers(lambda: None), []
    for number in range(waiting):
        timers.add(10 + number, Probe(number, record))
    for _ in range(10_000):
        timers.cancel(timers.add(5, Probe("cancelled", record)))
        assert len(timers._heap) <= 2 * waiting + 65
    timers.fire(5000)
    assert record == list(range(waiting))


def test_clear_drops_all_unfired() -> None:
    timers, record = Timers(lambda: None), []
    number = timers.add(1, Probe("dropped", record))
    timers.clear()
    timers.fire(2)
    assert (record, len(timers), timers.cancel(number)) == ([], 0, False)
