"""Policies: who runs next. Each one's order, and that everything else goes on as in the ring."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import (
    Deadlock,
    Event,
    Lock,
    Policy,
    Queue,
    Scheduler,
    SchedulerError,
    Steps,
    Thread,
    run_scheduler,
    sleep,
    yield_now,
)
from scheduler import Task, VirtualClock
from scheduler.policies import Priorities, RoundRobin, WeightedFair


class LastFirst(Policy):
    """A policy of one's own: who became ready last runs first."""

    def __init__(self) -> None:
        self.ready: list[Task] = []

    def add(self, task: Task) -> None:
        self.ready.append(task)

    def take(self) -> Task:
        return self.ready.pop()

    def __len__(self) -> int:
        return len(self.ready)


POLICIES: list[Callable[[], Policy]] = [RoundRobin, Priorities, lambda: Priorities(None), WeightedFair, LastFirst]


@pytest.fixture(params=POLICIES, ids=["RoundRobin", "Priorities", "strict", "WeightedFair", "LastFirst"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return request.param()  # type: ignore[no-any-return]


def turns(policy: Policy | None, threads: dict[str, dict[str, float]], count: int, run: float = 1.0) -> list[str]:
    """Who had the first `count` turns, of threads with these attributes that do nothing but yield."""
    record: list[str] = []

    def main() -> None:
        def work(name: str) -> None:
            while len(record) < count:
                record.append(name)
                now[0] += run
                yield_now()

        for name, attributes in threads.items():
            thread = Thread(target=work, args=(name,))
            for attribute, value in attributes.items():
                setattr(thread, attribute, value)
            thread.start()

    run_scheduler(main, policy=policy)
    return record[:count]


now = [0.0]


# ---- The order of each -----------------------------------------------------------------------------------------------


def test_round_robin_is_the_ring() -> None:
    threads: dict[str, dict[str, float]] = {name: {} for name in "abc"}
    assert turns(RoundRobin(), threads, 9) == turns(None, threads, 9) == list("abcabcabc")


def test_the_highest_priority_runs_first() -> None:
    threads = {"low": {"priority": -1}, "none": {}, "high": {"priority": 5}, "too": {"priority": 5}}
    assert turns(Priorities(ageing=None), threads, 6) == ["high", "too"] * 3


def test_a_priority_may_change_at_any_time() -> None:
    record: list[str] = []

    def main() -> None:
        def work(name: str) -> None:
            for _ in range(3):
                record.append(name)
                first.priority = 0
                yield_now()

        first = Thread(target=work, args=("first",))
        second = Thread(target=work, args=("second",))
        first.priority, second.priority = 2, 1
        first.start()
        second.start()

    run_scheduler(main, policy=Priorities(ageing=None))
    assert record == ["first"] + ["second"] * 3 + ["first"] * 2


def test_who_waits_is_promoted() -> None:
    threads = {"high": {"priority": 2}, "low": {"priority": 0}}
    record = turns(Priorities(ageing=10), threads, 200)
    # Two levels of ten turns each: the low one has about every twentieth.
    assert 8 <= Counter(record)["low"] <= 12
    assert "low" in record[:25]
    assert "low" not in record[:18]


def test_a_priority_may_come_from_anywhere() -> None:
    record: list[str] = []
    order = {"a": 1, "b": 3, "c": 2}

    def main() -> None:
        for name in order:
            Thread(target=record.append, args=(name,), name=name).start()

    run_scheduler(main, policy=Priorities(of=lambda task: order.get(task.name, 0)))
    assert record == ["b", "c", "a"]


def test_time_is_shared_by_weight() -> None:
    now[0] = 0.0
    policy = WeightedFair(clock=lambda: now[0])
    threads = {"one": {"weight": 1}, "two": {"weight": 2}, "five": {"weight": 5}}
    assert Counter(turns(policy, threads, 800)) == {"one": 100, "two": 200, "five": 500}


def test_who_runs_longer_has_fewer_turns() -> None:
    now[0] = 0.0
    record: Counter[str] = Counter()

    def main() -> None:
        def work(name: str, run: float) -> None:
            while now[0] < 1000:
                record[name] += 1
                now[0] += run
                yield_now()

        Thread(target=work, args=("long", 4.0)).start()
        Thread(target=work, args=("short", 1.0)).start()

    run_scheduler(main, policy=WeightedFair(clock=lambda: now[0]))
    assert abs(record["short"] - 4 * record["long"]) <= 4


def test_a_thread_that_waited_has_saved_nothing_up() -> None:
    now[0] = 0.0
    record: list[str] = []
    event = Event()

    def main() -> None:
        def work(name: str) -> None:
            while len(record) < 200:
                record.append(name)
                now[0] += 1
                if len(record) == 100:
                    event.set()
                yield_now()

        def late() -> None:
            event.wait()
            work("late")

        Thread(target=late).start()
        yield_now()
        Thread(target=work, args=("early",)).start()

    run_scheduler(main, policy=WeightedFair(clock=lambda: now[0]))
    assert set(record[:100]) == {"early"}
    assert 48 <= Counter(record[100:])["late"] <= 52


def test_time_goes_on_where_the_clock_does_not() -> None:
    threads = {"a": {"weight": 1}, "b": {"weight": 3}}
    record = Counter(turns(WeightedFair(clock=lambda: 0.0), threads, 400))
    assert 290 <= record["b"] <= 310


def test_a_policy_of_ones_own() -> None:
    record: list[str] = []

    def main() -> None:
        for name in "abc":
            Thread(target=record.append, args=(name,)).start()

    run_scheduler(main, policy=LastFirst())
    assert record == ["c", "b", "a"]


# ---- All of them, with everything else -------------------------------------------------------------------------------


def test_timers_fire_while_threads_yield(policy: Policy) -> None:
    clock = VirtualClock()

    def main() -> bool:
        done: list[int] = []

        def sleeper() -> None:
            sleep(100)
            done.append(1)

        def yield_until_done() -> None:
            while not done:
                clock.advance(1)
                yield_now()

        thread = Thread(target=sleeper)
        thread.priority, thread.weight = 10, 1000.0
        thread.start()
        thread = Thread(target=yield_until_done)
        thread.start()
        thread.join()
        return bool(done)

    if isinstance(policy, LastFirst):
        pytest.skip("who yields runs again at once: that is what this policy does")
    assert Scheduler(clock=clock, policy=policy).run(main)


def test_threads_wait_and_wake_across_kinds(policy: Policy) -> None:
    def main() -> int:
        queue: Queue[int] = Queue(2)
        total = [0]

        def consume() -> None:
            for _ in range(50):
                item = queue.get()
                total[0] += item

        threads = [Thread(target=consume) for _ in range(2)]
        threads += [Thread(target=lambda: [queue.put(n) for n in range(50)], kind=kind) for kind in ("user", "kernel")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return total[0]

    assert run_scheduler(main, policy=policy) == 2 * sum(range(50))


def test_many_short_threads_recycle_their_stacks(policy: Policy) -> None:
    def main() -> int:
        done: list[int] = []
        for _ in range(3):
            threads = [Thread(target=done.append, args=(1,)) for _ in range(200)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return len(done)

    assert run_scheduler(main, policy=policy) == 600


def test_time_slices_end_runs_under_any_policy(policy: Policy) -> None:
    def main() -> list[int]:
        done: list[int] = []
        other = Thread(target=done.append, args=(1,))
        other.priority = 1
        other.start()
        while not done and not isinstance(policy, LastFirst):
            pass
        return done

    assert run_scheduler(main, policy=policy, timeslice=Steps(50)) in ([1], [])


def test_deadlocks_are_found_and_daemons_unwound(policy: Policy) -> None:
    record: list[str] = []

    def daemon() -> None:
        try:
            Event().wait()
        finally:
            record.append("unwound")

    def main() -> None:
        Thread(target=daemon, daemon=True).start()
        yield_now()
        sleep(0)
        lock = Lock()
        lock.acquire()
        with pytest.raises(Deadlock):
            lock.acquire()

    Scheduler(clock=VirtualClock(), policy=policy).run(main)
    assert record == ["unwound"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_leaves_the_others_behind(policy: Policy) -> None:
    record: list[int] = []

    def main() -> int:
        for _ in range(5):
            Thread(target=record.append, args=(1,)).start()
        child = os.fork()
        if child == 0:
            yield_now()
            os._exit(len(record))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run_scheduler(main, policy=policy) == 0
    assert len(record) == 5


# ---- Those that fail -------------------------------------------------------------------------------------------------


class Failing(RoundRobin):
    """Does `misdeed` at the `at`-th call of the method `where`, in place of what it should do or before it."""

    def __init__(self, where: str, at: int, misdeed: Callable[[RoundRobin], Any]) -> None:
        super().__init__()
        self.where, self.at, self.misdeed = where, at, misdeed

    def _does_it(self, where: str) -> bool:
        self.at -= where == self.where
        return self.at == 0 and where == self.where

    def add(self, task: Task) -> None:
        if self._does_it("add"):
            self.misdeed(self)
        super().add(task)

    def take(self) -> Task:
        if self._does_it("take"):
            return self.misdeed(self)  # type: ignore[no-any-return]
        return super().take()


def lose(policy: RoundRobin) -> Task:
    RoundRobin.take(policy)
    return RoundRobin.take(policy)


def wait(_policy: RoundRobin) -> None:
    sleep(1)


MISDEEDS: dict[str, tuple[str, Callable[[RoundRobin], Any], str]] = {
    "raises in add": ("add", lambda _policy: 1 / 0, "ZeroDivisionError"),
    "raises in take": ("take", lambda _policy: 1 / 0, "ZeroDivisionError"),
    "returns nothing": ("take", lambda _policy: None, "take() returned None, which is not ready"),
    "returns what has no hash": ("take", lambda _policy: [], "TypeError"),
    "returns one and keeps it": ("take", lambda policy: policy._ready[0], ""),
    "loses one": ("take", lose, "IndexError"),
    "waits in add": ("add", wait, "the scheduler itself can't wait"),
    "waits in take": ("take", wait, "the scheduler itself can't wait"),
    "yields": ("take", lambda _policy: yield_now(), "the scheduler itself can't wait"),
}


@pytest.mark.parametrize("timeslice", [None, Steps(20)], ids=["cooperative", "in slices"])
@pytest.mark.parametrize("at", [3, 6, 8])
@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_one_that_fails_serves_no_longer(misdeed: str, at: int, timeslice: Steps | None) -> None:
    where, does, says = MISDEEDS[misdeed]
    record: list[str] = []

    def work(name: str) -> None:
        for _ in range(5):
            record.append(name)
            yield_now()

    def main() -> None:
        threads = [Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except SchedulerError as error:
            record.append(str(error))
        for thread in threads:
            thread.join()

    run_scheduler(main, policy=Failing(where, at, does), timeslice=timeslice)
    [told] = [words for words in record if len(words) > 1]
    assert told.startswith("the policy Failing failed, threads take turns from here on: ")
    assert says in told
    assert Counter(record) == {"a": 5, "b": 5, "c": 5, told: 1}


def test_who_started_others_and_has_ended_is_told_by_run_scheduler() -> None:
    record: list[int] = []

    def main() -> None:
        for number in range(3):
            Thread(target=record.append, args=(number,)).start()

    with pytest.raises(SchedulerError, match="the policy Failing failed") as caught:
        run_scheduler(main, policy=Failing("take", 3, lambda _policy: 1 / 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_priority_that_is_no_number_is_said_to_be_none() -> None:
    record: list[int] = []

    def main() -> None:
        thread = Thread(target=record.append, args=(1,))
        thread.priority = "high"  # type: ignore[assignment]
        thread.start()
        thread.join()

    with pytest.raises(SchedulerError, match=r"the policy Priorities failed.*'str'"):
        run_scheduler(main, policy=Priorities())
    assert record == [1]


def test_it_need_not_count_right() -> None:
    class Empty(RoundRobin):
        def __len__(self) -> int:
            return 0

    assert turns(Empty(), {name: {} for name in "abc"}, 9) == list("abcabcabc")


def test_a_thread_may_give_way_with_no_stack_left(policy: Policy) -> None:
    record: list[str] = []

    def deep(number: int) -> None:
        if number % 7 == 0:
            yield_now()
        deep(number + 1)

    def overflow() -> None:
        with pytest.raises(RecursionError):
            deep(0)
        record.append("overflowed")

    def main() -> None:
        threads = [Thread(target=overflow), Thread(target=overflow)]
        threads.append(Thread(target=lambda: [yield_now() for _ in range(1000)]))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main, policy=policy)
    assert record == ["overflowed"] * 2


def test_a_policy_serves_one_scheduler() -> None:
    policy = RoundRobin()

    def main() -> None:
        # Looked at once it has been taken out of the inbox.
        for _ in range(2):
            Thread(target=lambda: [yield_now() for _ in range(3)]).start()
        yield_now()
        assert len(policy)
        with pytest.raises(SchedulerError, match="this policy serves another scheduler: make a new one"):
            Scheduler(policy=policy)

    run_scheduler(main, policy=policy)
    assert len(policy) == 0
    run_scheduler(lambda: None, policy=policy)


@pytest.mark.parametrize("policy", [1, RoundRobin], ids=["a number", "a class"])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(TypeError, match="policy must be a Policy or None, not "):
        run_scheduler(print, policy=policy)


def test_ageing_is_a_number_of_turns() -> None:
    with pytest.raises(ValueError, match="ageing must be at least 1 turn, or None, not 0"):
        Priorities(0)
