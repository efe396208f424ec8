"""How strong each strategy is: in pairs, what the weak one must miss and the strong one must find, with the odds."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from bugs import OPERATIONS_ONLY
from plain import explore
from together import together

import greenthreads.testing
from greenthreads.testing._session import Session
from scheduler.strategies import PCT, POS, SURW, DepthFirst, RandomWalk, by_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.strategy import Strategy


def finds(program: Callable[[], object], strategy: Strategy, executions: int) -> int | None:
    """After how many executions `strategy` finds a failure; None if it does not in that many."""
    found = explore(
        program,
        strategy=strategy,
        max_executions=executions,
        max_seconds=None,
        shrinking=False,
        **OPERATIONS_ONLY,  # type: ignore[arg-type]
    )
    return None if found.failure is None else found.executions


def late_by(steps: int) -> Callable[[], None]:
    """Fails if one thread does all its `steps` before the other one does its only one."""

    def program() -> None:
        flag = threading.Event()
        lock = threading.Lock()

        def long() -> None:
            for _ in range(steps // 2):
                with lock:
                    pass
            assert flag.is_set()

        together(long, flag.set)

    return program


def lost_between_locks() -> None:
    """Fails if a thread is preempted at one of a few places: a bug of depth 2, of one preemption."""
    lock = threading.Lock()
    counter = 0

    def increment() -> None:
        nonlocal counter
        with lock:
            value = counter
        with lock:
            counter = value + 1

    together(increment, increment)
    assert counter == 2


def looked_at_twice() -> None:
    """Fails if one thread is preempted by a second one after its first step, and that one before its second."""
    steps, looks = threading.Semaphore(0), threading.Semaphore(0)
    seen = []

    def go() -> None:
        steps.release()
        steps.release()

    def look() -> None:
        for _ in range(2):
            looks.release()
            seen.append(steps._value)

    together(go, look)
    assert seen != [1, 2]


def to_and_fro() -> None:
    """Fails if at four objects in a row now the one thread, now the other is first."""
    objects = [threading.Event() for _ in range(4)]
    first: list[str] = []

    def visit(name: str) -> None:
        for each in objects:
            if not each.is_set():
                first.append(name)
                each.set()

    together(lambda: visit("a"), lambda: visit("b"))
    # Each object but the first twice in the list would mean that both came at once.
    assert first != ["a", "b", "a", "b"]


def test_depth_first_needs_as_many_preemptions_as_the_bug() -> None:
    # No odds: it sees every schedule within its bound.
    assert finds(lost_between_locks, DepthFirst(0), 10_000) is None
    assert finds(lost_between_locks, DepthFirst(1), 10_000) is not None
    assert finds(looked_at_twice, DepthFirst(1), 10_000) is None
    assert finds(looked_at_twice, DepthFirst(2), 10_000) is not None


def test_round_robin_is_proof_of_nothing() -> None:
    # Its few executions take turns from the first thread on: none has the second one wait for ten steps of the other
    # after it began as the first. DepthFirst sees all.
    def program() -> None:
        turns: list[int] = []

        def thread(number: int) -> None:
            for _ in range(3):
                time.sleep(0)
                turns.append(number)

        together(lambda: thread(1), lambda: thread(2))
        assert turns != [2, 1, 1, 2, 2, 1]

    assert finds(program, by_name("round_robin", 0), 10_000) is None
    assert finds(program, DepthFirst(), 10_000) is not None


def test_a_random_walk_does_not_keep_a_thread_waiting_for_long_and_pct_does() -> None:
    # A coin at each of 40 steps: 2^-40 for each execution.
    assert finds(late_by(40), RandomWalk(0), 500) is None
    # The long one has the higher priority: 1/2. All of 40 executions miss it with odds of 2^-40.
    assert finds(late_by(40), PCT(1, 0), 40) is not None


def test_pct_finds_bugs_up_to_its_depth() -> None:
    # Without a change of priorities there is no preemption at all.
    assert finds(lost_between_locks, PCT(1, 0), 2000) is None
    # n = 3 threads and k of at most 12 choice points: 1 / (3 * 12) at least, so (35/36)^500 < 10^-6 to miss it.
    assert finds(lost_between_locks, PCT(2, 0), 500) is not None


def test_pct_of_depth_2_has_one_preemption_and_of_depth_3_two() -> None:
    # Only a change of priorities preempts, and there is one.
    assert finds(looked_at_twice, PCT(2, 0), 2000) is None
    # n = 3 and k of at most 10: 1 / (3 * 10^2) at least, so (1 - 1/300)^4000 < 10^-5.
    assert finds(looked_at_twice, PCT(3, 0), 4000) is not None


def test_pct_lets_those_that_have_fallen_run_in_either_order() -> None:
    class Waiting:
        op, obj, footprint = "acquire", None, None

        def __init__(self, number: int) -> None:
            self.id = number

    threads = [Waiting(number) for number in range(3)]
    strategy = PCT(3, 0)
    strategy._points = 2  # It has seen an execution of two choice points, and so has two changes at these.
    orders: Counter[tuple[int, int]] = Counter()
    for _ in range(600):
        strategy.begin()
        strategy.choose(threads, None)
        last = strategy.choose(threads, None)
        # Two have fallen; who is the higher one of them?
        others = [thread for thread in threads if thread is not last]
        orders[strategy.choose(others, None).id, last.id] += 1
    # Six orders, 1/6 each: 100 of 600, and the standard deviation is 9.1.
    assert len(orders) == 6
    assert all(50 < count < 150 for count in orders.values()), orders


def test_pos_is_fair_to_the_order_of_conflicts_and_a_random_walk_is_not() -> None:
    # `set` keeps the priority p that it has, and each of 40 operations that it does not conflict with draws anew: all
    # of them are above p with odds of the integral of (1 - p)^40, 1/41. 500 executions miss with (40/41)^500 < 10^-5.
    assert finds(late_by(40), POS(0), 500) is not None
    assert finds(late_by(40), RandomWalk(0), 500) is None


def test_pos_switches_often_and_pct_of_depth_3_twice() -> None:
    # To and fro takes three preemptions or more.
    assert finds(to_and_fro, PCT(3, 0), 1000) is None
    # Each of some eight orders is drawn with odds of about 1/2: 2^-8, so (1 - 2^-8)^4000 < 10^-6.
    assert finds(to_and_fro, POS(0), 4000) is not None


def test_surw_makes_each_place_as_likely_as_any_other_and_a_random_walk_does_not() -> None:
    # One release of the one thread among nine of the other: ten places.
    places: list[int] = []

    def program() -> None:
        many, one = threading.Semaphore(0), threading.Semaphore(0)

        def long() -> None:
            for _ in range(9):
                many.release()

        def short() -> None:
            one.release()
            places.append(many._value)

        together(long, short)

    def drawn_by(strategy: Strategy) -> Counter[int]:
        places.clear()
        assert finds(program, strategy, 1001) is None
        return Counter(places[1:])

    # 1/10 each: of 1000 executions 100, and the standard deviation is 9.5. Six of these
    # are exceeded with odds of 10^-8.
    uniform = drawn_by(SURW(0, kinds=("release",)))
    assert sorted(uniform) == list(range(10))
    assert all(43 < count < 157 for count in uniform.values()), uniform
    # A coin at each step: the last place has odds of 2^-9 at most, two executions of a thousand.
    walk = drawn_by(RandomWalk(0))
    assert walk[9] + walk[8] < 43


def test_surw_finds_what_a_random_walk_never_does() -> None:
    # Once the numbers are known, 1/41 whenever all kinds are interesting (half of the time): (81/82)^1500 < 10^-7.
    assert finds(late_by(40), SURW(0), 1500) is not None


def test_auto_finds_what_takes_either_kind_of_strategy() -> None:
    for program in (lost_between_locks, looked_at_twice, late_by(40), to_and_fro):
        assert finds(program, by_name("auto", 0), 4000) is not None


class Flag:
    """Something with an attribute."""

    up = False


def late_by_private_memory(rounds: int) -> Callable[[], None]:
    """Fails if one thread does all its work, on a list of its own, before the other one does its only step."""

    def program() -> None:
        flag = Flag()
        flag.up = False

        def short() -> None:
            flag.up = True

        def long() -> None:
            own: list[int] = []
            for number in range(rounds):
                own.append(number)
                own.pop()
            assert flag.up

        together(short, long)

    return program


def test_a_random_walk_gets_past_memory_that_only_one_thread_touches() -> None:
    def finds_at_memory(strategy: RandomWalk, executions: int) -> bool:
        program = late_by_private_memory(20)
        found = greenthreads.testing.explore(
            program, strategy=strategy, max_executions=executions, max_seconds=None, shrinking=False, races="off"
        )
        return found.failure is not None

    # A coin at each of 40 accesses to the list: 2^-40 for each execution.
    not_learning = RandomWalk(0)
    not_learning.every_point_in = 1
    assert not finds_at_memory(not_learning, 300)
    # The first execution has shown that the list is private. What is left, with `short` at its two steps: main starts
    # `long` and goes on to join, and that begins and looks at the flag: six coins at most. In seven of eight
    # executions: (63/64)^(7/8 * 1000) < 10^-5.
    assert finds_at_memory(RandomWalk(0), 1000)


SAMPLERS = ("random", "pct", "pos", "surw", "auto")


def schedules_of(name: str, seed: int, executions: int = 40) -> list[tuple[Any, ...]]:
    seen = []
    strategy = by_name(name, seed)
    with Session(late_by(6)) as session:
        for _ in range(executions):
            strategy.begin()
            session.run(strategy)
            seen.append(tuple(session.scheduler.trace))
    return seen


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_seed_determines_the_schedules(name: str) -> None:
    one = schedules_of(name, 1)
    assert one == schedules_of(name, 1)
    # Of 40 executions some differ for another seed, whatever the strategy.
    assert one != schedules_of(name, 2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_vary(name: str) -> None:
    assert len(set(schedules_of(name, 1))) >= 5


def test_shrinking_finds_the_fewest_preemptions() -> None:
    # Turn by turn the first deadlock found has two, neither of which can be left out. There is one with one: the second
    # of the three waits for its second lock by itself, when the third has taken it.
    def ring() -> None:
        locks = [threading.Lock() for _ in range(3)]

        def take(first: int) -> None:
            with locks[first], locks[(first + 1) % 3]:
                pass

        together(*(lambda first=first: take(first) for first in range(3)))  # type: ignore[misc]

    assert finds(ring, DepthFirst(0), 1000) is None
    found = explore(ring, **OPERATIONS_ONLY)  # type: ignore[arg-type]
    assert found.failure is not None
    assert found.failure.preemptions == 1
