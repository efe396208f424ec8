"""Linearizability: calls that are made at once return what they return in some order, and who breaks that is found."""

from __future__ import annotations

import functools
import queue
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from greenthreads.testing import Call, Linearizability, NotLinearizable, check_linearizable, explore
from greenthreads.testing._scenarios import Result, Scenario, orders_of, scenarios

pytestmark = pytest.mark.alone


class Counter:
    """Correct: each method is one critical section."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value = 0

    def add(self) -> int:
        with self.lock:
            self.value += 1
            return self.value

    def get(self) -> int:
        with self.lock:
            return self.value


class Torn(Counter):
    """`add` reads in one critical section, and writes in another."""

    def add(self) -> int:
        with self.lock:
            value = self.value
        with self.lock:
            self.value = value + 1
            return self.value


class Unlocked(Counter):
    def add(self) -> int:
        value = self.value + 1
        self.value = value
        return value

    def get(self) -> int:
        return self.value


class Silent(Unlocked):
    """What goes wrong can't be seen by what `add` returns."""

    def add(self) -> None:  # type: ignore[override]
        self.value += 1


ADD, GET = Call("add"), Call("get")


def broken(make: Callable[[], object], calls: list[Any], **options: Any) -> NotLinearizable:
    with pytest.raises(NotLinearizable) as caught:
        check_linearizable(make, calls, **options)
    return caught.value


# ---- What is found ---------------------------------------------------------------------------------------------------


def test_a_correct_object_passes_and_it_says_what_was_seen() -> None:
    seen = check_linearizable(Counter, [ADD, GET], threads=3, calls_each=1, max_seconds=None)
    assert (seen.scenarios, seen.exhausted, seen.skipped) == (7, 7, 0)
    assert seen.coverage == f"7 scenarios, {seen.executions} executions: every schedule of all"
    assert repr(seen) == f"<Linearizability: {seen.coverage}>"


@pytest.mark.parametrize("make", [Torn, Unlocked])
@pytest.mark.parametrize("strategy", ["dfs", "dpor", "random", "auto"])
def test_a_broken_one_is_found_by_each_strategy_and_its_scenario_made_small(
    make: Callable[[], object], strategy: str
) -> None:
    error = broken(make, [ADD, GET], strategy=strategy)
    assert error.scenario == Scenario(((ADD,), (ADD,)), ())
    assert error.failure.kind == "assertion"
    assert str(error).splitlines()[1:4] == [
        "  these calls return this in no order:",
        "    thread 1: add() -> 1",
        "    thread 2: add() -> 1",
    ]


def test_the_report_shows_the_calls_and_what_they_return_among_the_steps() -> None:
    lines = str(broken(Unlocked, [ADD])).splitlines()
    steps = [" ".join(line.split()[1:]) for line in lines]
    assert [step for step in steps if step.startswith(("call ", "return "))] == [
        "call add()", "call add()", "return 1", "return 1",
    ]  # fmt: skip
    assert any(line.startswith("lost update of self.value") for line in lines)


def test_calls_afterwards_see_what_has_become_of_the_object() -> None:
    # Two that overlap return None in any order: only who looks afterwards can tell.
    check_linearizable(Silent, [Call("add")], scenario=[[ADD], [ADD]])
    error = broken(Silent, [ADD], scenario=[[ADD], [ADD]], afterwards=[GET])
    assert "  afterwards: get() -> 1" in str(error)


def test_what_was_seen_to_end_before_must_come_before() -> None:
    """The count is wrong only for who knows that the other `add` had ended when the look at it began."""
    error = broken(Silent, [ADD], scenario=[[ADD, GET], [ADD]])
    assert (
        "these calls return this in no order that keeps to which of them had ended before others began:" in str(error)
    )


class Deaf:
    """Each thread sees its own writes alone. That is an order, for who doesn't know of time."""

    def __init__(self) -> None:
        self.mine = threading.local()

    def write(self, value: int) -> None:
        self.mine.value = value

    def read(self) -> int:
        return getattr(self.mine, "value", 0)


class Register:
    value = 0

    def write(self, value: int) -> None:
        self.value = value

    def read(self) -> int:
        return self.value


def test_sequential_consistency_asks_for_less() -> None:
    calls = [Call("write", 1), Call("read")]
    error = broken(Deaf, calls, model=Register)
    assert error.scenario.threads in (((calls[0],), (calls[1],)), ((calls[1],), (calls[0],)))
    seen = check_linearizable(
        Deaf, calls, model=Register, consistency="sequential", max_scenarios=20, max_seconds=None
    )
    assert seen.scenarios == 20


class Stack:
    def __init__(self) -> None:
        self.items = [1]

    def pop(self) -> int:
        return self.items.pop()

    def pop_if_any(self) -> int | None:
        if self.items:
            return self.items.pop()
        return None


def test_exceptions_are_results() -> None:
    check_linearizable(Stack, [Call("pop")])
    error = broken(Stack, [Call("pop_if_any")])
    assert "pop_if_any() -> IndexError('pop from empty list')" in str(error)


class Crossed:
    """Two locks, taken in two orders."""

    def __init__(self) -> None:
        self.locks = threading.Lock(), threading.Lock()

    def cross(self, first: int) -> None:
        with self.locks[first], self.locks[1 - first]:
            pass


def test_calls_that_wait_for_each_other_for_good_are_found() -> None:
    error = broken(Crossed, [Call("cross", 0), Call("cross", 1)])
    assert error.failure.kind == "deadlock"
    assert str(error).startswith("deadlock after")


# ---- Which scenarios, and which orders -------------------------------------------------------------------------------


def test_a_scenario_of_which_an_order_waits_for_good_is_left_out() -> None:
    put, get = Call("put", 1), Call("get")
    seen = check_linearizable(queue.Queue, [put, get], scenario=[[put], [get]])
    assert (seen.scenarios, seen.skipped) == (1, 0)
    seen = check_linearizable(queue.Queue, [put, get], scenario=[[put, get], [get]])
    assert seen.coverage == (
        "0 scenarios, 0 executions: every schedule of all; "
        "1 more left out, for some order of their calls waits for good"
    )


def test_it_ends_also_where_all_wait() -> None:
    seen = check_linearizable(queue.Queue, [Call("get")], max_scenarios=1, max_seconds=None)
    assert seen.scenarios == 0
    assert seen.skipped > 1


class Plain:
    """What a queue is to one thread."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()

    def put(self, item: int) -> None:
        self.items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> int:
        if not self.items:
            raise queue.Empty
        return self.items.popleft()

    def qsize(self) -> int:
        return len(self.items)


@pytest.mark.parametrize("make", [queue.Queue, queue.SimpleQueue])
def test_the_standard_queues_are_linearizable(make: Callable[[], object]) -> None:
    calls = [Call("put", 1), Call("put", 2), Call("get", block=False), Call("get", timeout=1), Call("qsize")]
    seen = check_linearizable(make, calls, model=Plain, max_scenarios=25, max_executions=50, max_seconds=None)
    assert seen.scenarios == 25
    assert seen.exhausted >= 15


def test_scenarios_are_drawn_by_the_seed_and_no_two_are_alike() -> None:
    def drawn(seed: int) -> list[Scenario]:
        return list(islice(scenarios([ADD, GET], (), 3, 3, seed), 60))

    assert drawn(1) == drawn(1) != drawn(2)
    assert [each.threads for each in drawn(1)[:3]] == [((ADD,), (ADD,)), ((ADD,), (GET,)), ((GET,), (GET,))]
    assert len({tuple(sorted(map(str, each.threads))) for each in drawn(1)}) == 60
    assert {len(each.threads) for each in drawn(1)} == {2, 3}
    assert max(len(calls) for each in drawn(1) for calls in each.threads) == 3


def test_there_is_an_end_to_small_scenarios() -> None:
    assert len(list(scenarios([ADD], (), 2, 1, 0))) == 1


@pytest.mark.parametrize(
    ("lengths", "count"), [((1,), 1), ((1, 1), 2), ((2, 1), 3), ((2, 2), 6), ((1, 1, 1), 6), ((2, 2, 2), 90)]
)
def test_all_orders_are_tried(lengths: tuple[int, ...], count: int) -> None:
    found = orders_of(Scenario(tuple((ADD,) * length for length in lengths), (GET,)), Counter)
    assert len({order.turns for order in found.whole}) == len(found.whole) == count
    assert not found.may_wait_for_good
    assert all(order.results[-1] == (Result(sum(lengths)),) for order in found.whole)


def test_results_belong_to_the_calls_of_their_thread() -> None:
    found = orders_of(Scenario(((ADD, ADD), (GET,)), ()), Counter)
    assert {order.turns: [[each.value for each in one] for one in order.results] for order in found.whole} == {
        (0, 0, 1): [[1, 2], [2], []],
        (0, 1, 0): [[1, 2], [1], []],
        (1, 0, 0): [[1, 2], [0], []],
    }


def test_too_many_orders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"these calls have 34,650 orders, and at most 2,000 are tried: take fewer"):
        check_linearizable(Counter, [ADD], scenario=[[ADD] * 4] * 3)


# ---- Again -----------------------------------------------------------------------------------------------------------


def test_what_was_found_is_found_again_by_its_scenario_and_its_trace() -> None:
    error = broken(Torn, [ADD, GET])
    again = str(error).splitlines()[-1]
    assert again == (
        "replay: check_linearizable(Torn, calls, scenario=[[Call('add')], [Call('add')]], "
        f"first=[{error.failure.trace!r}])"
    )
    calls = [ADD]
    with pytest.raises(NotLinearizable) as caught:
        eval(again.removeprefix("replay: "), {**globals(), "calls": calls})
    assert caught.value.failure.trace == error.failure.trace


def test_a_function_may_stand_for_a_call() -> None:
    def twice(counter: Counter) -> int:
        return counter.add() + counter.add()

    error = broken(functools.partial(Counter), [twice])
    assert "thread 1: twice -> " in str(error)
    assert "check_linearizable(make, calls, scenario=[[twice], [twice]]" in str(error)


# ---- Trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "threads", "verdicts"),
    [
        pytest.param(Counter, [[ADD], [GET]], ("right", "right"), id="locked"),
        pytest.param(Unlocked, [[ADD], [ADD]], ("broken", "broken"), id="lost update"),
        pytest.param(Unlocked, [[ADD], [GET]], ("right", "right"), id="one writer"),
        pytest.param(Silent, [[ADD, GET], [ADD]], ("broken", "right"), id="only time tells"),
        pytest.param(Silent, [[ADD], [ADD]], ("right", "right"), id="nobody looks"),
    ],
)
@pytest.mark.parametrize("strategy", ["dpor", "dfs"])
def test_dpor_and_brute_force_judge_alike(
    make: Callable[[], object], threads: list[list[Call]], verdicts: tuple[str, str], strategy: str
) -> None:
    def verdict(consistency: Any) -> str:
        try:
            seen = check_linearizable(
                make, [ADD], scenario=threads, strategy=strategy, consistency=consistency,
                max_executions=None, max_seconds=None, shrinking=False,
            )  # fmt: skip
        except NotLinearizable:
            return "broken"
        return "right" if seen.exhausted else "unknown"

    assert (verdict("linearizable"), verdict("sequential")) == verdicts


# ---- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "options", "error", "text"),
    [
        ([], {}, TypeError, r"calls must be functions of the object, such as \[Call\('get', 'key'\)\], not \[\]"),
        (["get"], {}, TypeError, r"calls must be functions of the object, such as .*, not \['get'\]"),
        ("get", {}, TypeError, r"calls must be functions of the object, such as .*, not 'get'"),
        (GET, {}, TypeError, r"calls must be functions of the object, such as .*, not Call\('get'\)"),
        ([Call("got")], {}, AttributeError, "'Counter' object has no attribute 'got'"),
        ([GET], {"afterwards": [Call("got")]}, AttributeError, "'Counter' object has no attribute 'got'"),
        ([GET], {"scenario": [[GET], [Call("get", 1)]]}, TypeError, r"Call\('get', 1\) does not fit Counter.get\(\)"),
        ([GET], {"model": 3}, TypeError, "model must be a function that makes an object, or its class, not 3"),
        ([GET], {"max_scenarios": 0}, ValueError, "max_scenarios must be at least 1, not 0"),
        ([GET], {"threads": 1}, ValueError, "threads must be at least 2, not 1"),
        ([GET], {"calls_each": 0}, ValueError, "calls_each must be at least 1, not 0"),
        ([GET], {"consistency": "causal"}, ValueError, "must be 'linearizable' or 'sequential', not 'causal'"),
        ([GET], {"strategy": "best"}, ValueError, "best"),
    ],
)
def test_bad_input(calls: Any, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_linearizable(Counter, calls, **options)


def test_a_call_begins_with_a_name() -> None:
    with pytest.raises(TypeError, match="a Call begins with the name of a method, not 3"):
        Call(3)  # type: ignore[arg-type]


def test_what_make_raises_is_raised() -> None:
    def make() -> object:
        raise OSError("no object today")

    with pytest.raises(OSError, match="no object today"):
        check_linearizable(make, [GET])


def test_not_inside_of_an_exploration() -> None:
    found = explore(lambda: check_linearizable(Counter, [ADD]), max_executions=1)
    assert found.failure is not None
    assert "an exploration is going on already" in str(found.failure.exception)


def test_what_it_returns_is_public() -> None:
    assert isinstance(check_linearizable(Counter, [ADD], max_scenarios=1), Linearizability)
