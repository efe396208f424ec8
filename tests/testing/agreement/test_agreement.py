"""Every exhaustive strategy reaches exactly the outcomes that an independent interpreter says there are.

Hypothesis draws the programs. The ordinary run takes a few hundred; `-m soak` takes thousands.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, assume, given, settings

from agreement.classes import Watched
from agreement.execution import run_all
from agreement.interpreter import TooManyStates, outcomes, schedules
from agreement.programs import Op, Program, programs
from scheduler.strategies import BY_NAME, DPOR, DepthFirst, by_name

# Those that know when they have seen everything.
EXHAUSTIVE = tuple(name for name in ("dfs", "dpor") if name in BY_NAME)
# More executions than this, and a program is not small.
MOST = 200

checked: Counter[str] = Counter()


def agree(program: Program, strategy: str, early: bool, most: int = MOST) -> bool:
    """Hold a strategy to what brute force finds; False if the program is too large to see all of it."""
    # A reduction has to know what is touched; a full search is held to what it is said to see, operations.
    memory = strategy == "dpor"
    try:
        expected = outcomes(program, early, memory)
    except TooManyStates:
        return False
    seen = run_all(program, by_name(strategy, 0), early, most, memory)
    assert seen.outcomes <= expected, "an outcome that there should not be"
    if not seen.exhausted:
        return False
    checked[f"{strategy}, {'early' if early else 'due'}"] += 1
    if memory and any(kind != "done" for kind, *_ in expected):
        # The first failure ends an exploration, and an execution that fails shows no more races: one has to be found.
        assert any(kind != "done" for kind, *_ in seen.outcomes), "a failure that was missed"
    else:
        assert seen.outcomes == expected, "an outcome that was missed"
    return True


def settled(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("strategy", EXHAUSTIVE)
def test_the_outcomes_are_those_of_brute_force(strategy: str, early: bool) -> None:
    @settled(100)
    @given(programs(most_operations=4))
    def check(program: Program) -> None:
        assume(agree(program, strategy, early))

    check()


# Programs that some strategy has once got wrong.
ONCE_WRONG = {
    "a release too many, unless somebody acquires before": Program(
        (("bounded", 1),), ((), (Op("release"),), (Op("acquire"),))
    ),
    "a free lock, and a wait that ends early": Program(
        (("lock", 0),), ((Op("acquire", 0, 1.0), Op("release")), (Op("sleep", 0, 2.0),))
    ),
    "yields in a row": Program((), ((Op("load"), Op("yield"), Op("store"), Op("yield"), Op("load")),) * 2),
    "waits that are due together": Program((("event", 0),), ((Op("sleep", 0, 1.0), Op("set")), (Op("wait", 0, 1.0),))),
    "a notify by who does not hold the lock, unless somebody else does": Program(
        (("condition of a lock", 0),), ((Op("acquire"),), (Op("notify", 0, 2),))
    ),
    "full, and empty again": Program(
        (("queue", 1),), ((Op("put"), Op("get", 0, 1.0)), (Op("put", 0, 0), Op("get", 0, 0), Op("get", 0, 0)))
    ),
}


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("name", ONCE_WRONG)
@pytest.mark.parametrize("strategy", EXHAUSTIVE)
def test_what_was_once_wrong(strategy: str, name: str, early: bool) -> None:
    assert agree(ONCE_WRONG[name], strategy, early, most=4000)


# These a full search takes too long for.
ONCE_REDUCED_WRONGLY = {
    "who waits for room, let on by who came later": Program(
        (("queue", 2),), ((Op("put"), Op("put")), (Op("put"),), (Op("get"),))
    ),
    "sleepers that wake together": Program(
        (("queue", 0),),
        ((Op("sleep", 0, 2.0), Op("put")), (Op("sleep", 0, 2.0), Op("get")), (Op("sleep", 0, 2.0), Op("qsize"))),
    ),
    "what ends early, and what only looks": Program(
        (("event", 0),),
        (
            (Op("yield"), Op("set"), Op("wait")),
            (Op("is_set"), Op("yield"), Op("is_set")),
            (Op("wait", 0, 2.0), Op("is_set"), Op("yield")),
        ),
    ),
}


# Three times the same in a row, and no loop that polls.
IN_A_ROW = {
    "sleeps": Program(
        (("lock", 0),),
        ((*[Op("sleep", 0, 1.0)] * 3, Op("acquire"), Op("release")), (Op("acquire", 0, 0), Op("release"))),
    ),
    "attempts": Program(
        (("semaphore", 0),),
        ((*[Op("acquire", 0, 0)] * 3, Op("release")), (Op("acquire", 0, 0), Op("acquire"), Op("release"))),
    ),
    "yields, then a timed wait for what is free": Program(
        (("semaphore", 2),),
        ((Op("acquire"), Op("release")), (*[Op("yield")] * 3, Op("acquire", 0, 1.0), Op("release"))),
    ),
    "yields, then a look": Program(
        (("lock", 0),), ((Op("acquire"), Op("release")), (*[Op("yield")] * 3, Op("acquire", 0, 0), Op("release")))
    ),
}


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("name", IN_A_ROW)
def test_the_same_in_a_row_is_no_polling(name: str, early: bool) -> None:
    assert agree(IN_A_ROW[name], "dpor", early)


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("name", ONCE_REDUCED_WRONGLY)
def test_what_was_once_reduced_wrongly(name: str, early: bool) -> None:
    assert agree(ONCE_REDUCED_WRONGLY[name], "dpor", early, most=4000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("strategy", EXHAUSTIVE)
def test_soak_the_outcomes_are_those_of_brute_force(strategy: str, early: bool) -> None:
    @settled(5000)
    @given(programs())
    def check(program: Program) -> None:
        assume(agree(program, strategy, early))

    check()
    print(dict(checked))


# ---- Loops that poll -------------------------------------------------------------------------------------------------


def agree_on_polling(program: Program, strategy: str, early: bool) -> bool:
    """The same where threads poll; brute force follows them for ever, as states that it knows already."""
    try:
        expected = outcomes(program, early, memory=True)
    except TooManyStates:
        return False
    if strategy == "dfs" and LIVELOCK in expected:
        return False  # It would see hundreds of them to their end.
    seen = run_all(program, by_name(strategy, 0), early, MOST, memory=True, max_steps=300)
    # Of threads that wait for one another, while others poll for ever, it is said that they do.
    of_all, of_these = ({LIVELOCK if kind == "deadlock" else (kind, *rest) for kind, *rest in found}
                        for found in (expected, seen.outcomes))  # fmt: skip
    assert of_these <= of_all, "an outcome that there should not be"
    if not seen.exhausted:
        return False
    checked[f"polling, {strategy}, {'early' if early else 'due'}"] += 1
    if any(kind != "done" for kind, *_ in of_all):
        assert any(kind != "done" for kind, *_ in of_these), "a failure that was missed"
    else:
        assert of_these == of_all, "an outcome that was missed"
    return seen.fairness_used


LIVELOCK = ("livelock", "Livelock")


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("strategy", EXHAUSTIVE)
def test_threads_that_poll_hide_nothing(strategy: str, early: bool) -> None:
    @settled(30)
    @given(programs(most_operations=3, polling=True))
    def check(program: Program) -> None:
        assume(agree_on_polling(program, strategy, early))

    check()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("strategy", EXHAUSTIVE)
def test_soak_threads_that_poll_hide_nothing(strategy: str, early: bool) -> None:
    @settled(1000)
    @given(programs(most_operations=4 if strategy == "dpor" else 3, polling=True))
    def check(program: Program) -> None:
        assume(agree_on_polling(program, strategy, early))

    check()
    print(dict(checked))


# ---- As many executions as there are classes of them -----------------------------------------------------------------


def count(program: Program, early: bool, most: int = 300) -> bool:
    """Hold the reduction to one execution for each class that brute force has; False if they can't be counted."""
    everything = Watched(DepthFirst())
    full = run_all(program, everything, early, most, memory=True)
    # An execution that fails shows no more races; where a thread was taken to poll in vain, steps depend on all others.
    if not full.exhausted or full.fairness_used or any(kind != "done" for kind, *_ in full.outcomes):
        return False
    reduced = Watched(DPOR())
    seen = run_all(program, reduced, early, most, memory=True)
    assert seen.exhausted
    assert reduced.classes.keys() == everything.classes.keys(), "a class that was missed, or that there is not"
    assert set(reduced.classes.values()) == {1}, "a class that was seen twice"
    checked["programs"] += 1
    checked["executions of all"] += len(full.schedules)
    checked["classes"] += len(everything.classes)
    checked["executions"] += len(seen.schedules)
    checked["executions abandoned"] += reduced.abandoned
    return True


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
def test_an_execution_for_each_class(early: bool) -> None:
    @settled(30)
    @given(programs(most_operations=3))
    def check(program: Program) -> None:
        assume(count(program, early))

    check()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
def test_soak_an_execution_for_each_class(early: bool) -> None:
    @settled(500)
    @given(programs(most_operations=3))
    def check(program: Program) -> None:
        assume(count(program, early, 500))

    check()
    print(dict(checked))


# ---- Within a bound on preemptions -----------------------------------------------------------------------------------


def agree_within(program: Program, bound: int, early: bool, most: int = MOST) -> bool:
    """Hold the bounded reduction to what brute force finds within the bound; False if the program is too large."""
    try:
        expected = outcomes(program, early, True, bound)
    except TooManyStates:
        return False
    seen = run_all(program, by_name("dpor", 0, bound), early, most, memory=True)
    if seen.fairness_used:
        # Where a thread polls in vain it is no preemption to let others run, and brute force knows nothing of that.
        assert not seen.complete
        return False
    assert seen.outcomes <= expected, "an outcome that there should not be"
    assert all(preemptions <= bound for _schedule, preemptions in seen.schedules)
    assert len(set(seen.schedules)) == len(seen.schedules), "an execution that was made twice"
    if not seen.complete:
        return False
    checked[f"at most {bound}, {'early' if early else 'due'}"] += 1
    if any(kind != "done" for kind, *_ in expected):
        assert any(kind != "done" for kind, *_ in seen.outcomes), "a failure that was missed"
    else:
        assert seen.outcomes == expected, "an outcome that was missed"
        if seen.exhausted:
            assert seen.outcomes == outcomes(program, early, True), "not everything has been seen"
    return True


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("bound", [0, 1, 2])
def test_the_outcomes_within_a_bound_are_those_of_brute_force(bound: int, early: bool) -> None:
    @settled(60)
    @given(programs(most_operations=4))
    def check(program: Program) -> None:
        assume(agree_within(program, bound, early))

    check()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("bound", [0, 1, 2])
def test_soak_the_outcomes_within_a_bound_are_those_of_brute_force(bound: int, early: bool) -> None:
    @settled(3000)
    @given(programs())
    def check(program: Program) -> None:
        assume(agree_within(program, bound, early, 1000))

    check()
    print(dict(checked))


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("name", [*ONCE_WRONG, *ONCE_REDUCED_WRONGLY])
@pytest.mark.parametrize("bound", [0, 1, 2])
def test_what_was_once_wrong_within_a_bound(bound: int, name: str, early: bool) -> None:
    program = {**ONCE_WRONG, **ONCE_REDUCED_WRONGLY}[name]
    assert agree_within(program, bound, early, most=4000)


POLLING = {
    "a flag": Program((("event", 0),), ((Op("until set"),), (Op("load"), Op("set")))),
    "a lock": Program((("lock", 0),), ((Op("until got"), Op("release")), (Op("acquire"), Op("load"), Op("release")))),
}


@pytest.mark.parametrize("name", POLLING)
def test_where_a_thread_polls_in_vain_a_bound_promises_nothing(name: str) -> None:
    seen = run_all(POLLING[name], by_name("dpor", 0, 1), memory=True)
    assert seen.fairness_used
    assert not seen.has_assumed
    assert not seen.complete
    assert not seen.exhausted


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
def test_depth_first_runs_each_schedule_once_by_number_of_preemptions(early: bool) -> None:
    """Not only the outcomes: the executions are the schedules, none left out, none twice, few preemptions first."""

    @settled(50)
    @given(programs(most_operations=3))
    def check(program: Program) -> None:
        try:
            expected = Counter(dict(schedules(program, early, 80)))
        except TooManyStates:
            assume(False)
        seen = run_all(program, by_name("dfs", 0), early, 200)
        assume(not seen.fairness_used)
        assert Counter(dict(seen.schedules)) == expected
        assert len(seen.schedules) == len(set(seen.schedules))
        counts = [preemptions for _schedule, preemptions in seen.schedules]
        assert counts == sorted(counts)
        for bound in range(max(counts, default=0)):
            bounded = run_all(program, by_name("dfs", 0, bound), early, 200)
            assert {s for s, _ in bounded.schedules} == {s for s, count in expected.items() if count <= bound}
            assert not bounded.exhausted

    check()
