"""Scenarios: which thread makes which calls on one object, and what the calls return when they are made one by one.

A call is a function of the object. What it returned or raised is its `Result`. In an *order* of a scenario all calls
are made by one thread, one after the other, each thread's own in the order in which it has them.
"""

from __future__ import annotations

import inspect
import itertools
import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from greenthreads.testing._aliases import brief
from greenthreads.testing._session import Session
from scheduler.strategies import RoundRobin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Call", "Order", "Orders", "Result", "Scenario", "in_words", "orders_of", "perform", "scenarios"]

# A scenario with more orders than these is refused: they are all tried.
_MOST_ORDERS: Final = 2_000
# How many scenarios may be drawn in vain, one after the other, before it is believed that there are no new ones.
_PATIENCE: Final = 200


class Call:
    """A call of a method: `Call("put", 3, block=False)` calls `put(3, block=False)` of the object that it is given."""

    def __init__(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        if not isinstance(method, str):
            raise TypeError(f"a Call begins with the name of a method, not {method!r}")
        self.method, self.args, self.kwargs = method, args, kwargs

    def __call__(self, obj: Any) -> Any:
        return getattr(obj, self.method)(*self.args, **self.kwargs)

    def must_fit(self, obj: object) -> None:
        """AttributeError or TypeError if the object has no such method, or it can't be called like that."""
        method = getattr(obj, self.method)
        try:
            signature = inspect.signature(method)
        except ValueError:
            return  # Of many functions of C nobody knows.
        try:
            signature.bind(*self.args, **self.kwargs)
        except TypeError as error:
            raise TypeError(f"{self!r} does not fit {type(obj).__name__}.{self.method}{signature}: {error}") from None

    def __repr__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"Call({', '.join([repr(self.method), *arguments])})"

    def __str__(self) -> str:
        arguments = [*map(brief, self.args), *(f"{name}={brief(value)}" for name, value in self.kwargs.items())]
        return f"{self.method}({', '.join(arguments)})"


class Result(NamedTuple):
    """What a call has returned or, with `raised`, the type and the arguments of the exception that it has raised."""

    value: Any
    raised: bool = False

    def __str__(self) -> str:
        if not self.raised:
            return brief(self.value)
        kind, args = self.value
        return f"{kind.__name__}({', '.join(map(brief, args))})"


def perform(call: Callable[[Any], object], obj: object) -> Result:
    """Make a call."""
    try:
        return Result(call(obj))
    except Exception as error:
        return Result((type(error), error.args), raised=True)


class Scenario(NamedTuple):
    """The calls of each thread, which run at once; and those that the main thread makes when all threads have ended."""

    threads: tuple[tuple[Callable[[Any], object], ...], ...]
    afterwards: tuple[Callable[[Any], object], ...]

    def __str__(self) -> str:
        """The calls of each thread, as a program writes them."""
        return ", ".join(f"[{', '.join(map(_as_written, calls))}]" for calls in self.threads)


def in_words(call: Callable[[Any], object]) -> str:
    """A call as it is shown."""
    return str(call) if isinstance(call, Call) else _as_written(call)


def _as_written(call: Callable[[Any], object]) -> str:
    return repr(call) if isinstance(call, Call) else getattr(call, "__name__", repr(call))


def scenarios(
    calls: Sequence[Callable[[Any], object]],
    afterwards: tuple[Callable[[Any], object], ...],
    threads: int,
    calls_each: int,
    seed: int,
) -> Iterator[Scenario]:
    """Scenarios of these calls, no two alike: first each pair of calls at once, then such as are drawn, growing.

    Endless, unless there are no more that it finds.
    """
    seen: set[tuple[tuple[int, ...], ...]] = set()
    numbers = range(len(calls))

    def made_of(drawn: Sequence[tuple[int, ...]]) -> Scenario:
        return Scenario(tuple(tuple(calls[number] for number in each) for each in drawn), afterwards)

    for one, other in itertools.combinations_with_replacement(numbers, 2):
        seen.add(((one,), (other,)))
        yield made_of([(one,), (other,)])
    rng = random.Random(seed)
    sizes = [(count, most) for most in range(1, calls_each + 1) for count in range(2, threads + 1)]
    in_vain = 0
    for count, most in itertools.cycle(sizes):
        drawn = [tuple(rng.choice(numbers) for _ in range(rng.randint(1, most))) for _ in range(count)]
        # Which thread is which makes no difference.
        alike = tuple(sorted(drawn))
        if alike not in seen:
            seen.add(alike)
            in_vain = 0
            yield made_of(drawn)
        elif (in_vain := in_vain + 1) > _PATIENCE:
            return


class Order(NamedTuple):
    """One order of a scenario's calls: whose turn it is; what each thread's calls return, and then the last."""

    turns: tuple[int, ...]
    results: tuple[tuple[Result, ...], ...]


class Orders(NamedTuple):
    """All orders of a scenario in which every call comes to an end; and whether one ends before, with all waiting."""

    whole: list[Order]
    may_wait_for_good: bool


class _OneByOne:
    """Makes the calls of a scenario one after the other, on a new object each time."""

    def __init__(self, scenario: Scenario, make: Callable[[], object]) -> None:
        self._scenario = scenario
        # A variable of the function: there a standard class is replaced for the session.
        self._session = Session(lambda: self._run(make()), memory=None)
        # Of each beginning of an order: what its last call returned, or None if that waits for good.
        self._known: dict[tuple[int, ...], Result | None] = {}
        self._last: dict[tuple[int, ...], tuple[Result, ...]] = {}
        self._turns: tuple[int, ...] = ()

    def _run(self, obj: object) -> None:
        if not self._known:
            # What does not fit fails in each order in the same way, and that would be right.
            for call in itertools.chain(*self._scenario.threads, self._scenario.afterwards):
                if isinstance(call, Call):
                    call.must_fit(obj)
        left = [iter(calls) for calls in self._scenario.threads]
        done: tuple[int, ...] = ()
        for turn in self._turns:
            done += (turn,)
            self._known[done] = None
            self._known[done] = perform(next(left[turn]), obj)
        # And to the end in some way, for what can be learned from that.
        for turn, calls in enumerate(left):
            for call in calls:
                done += (turn,)
                self._known[done] = None
                self._known[done] = perform(call, obj)
        self._last[done] = tuple(perform(call, obj) for call in self._scenario.afterwards)

    def _ends(self, turns: tuple[int, ...]) -> bool:
        """Whether the last call of `turns` comes to an end."""
        if turns not in self._known:
            self._do(turns)
        return self._known[turns] is not None

    def _do(self, turns: tuple[int, ...]) -> None:
        self._turns = turns
        outcome = self._session.run(RoundRobin())
        if outcome is not None and outcome.kind != "deadlock":
            raise outcome.exception

    def orders(self) -> Orders:
        with self._session:
            found = Orders([], False)
            counts = [len(calls) for calls in self._scenario.threads]
            return found._replace(may_wait_for_good=self._extend((), counts, found.whole))

    def _extend(self, turns: tuple[int, ...], left: list[int], whole: list[Order]) -> bool:
        if not any(left):
            if turns not in self._last:
                self._do(turns)
            # A last call may wait for good as well.
            if turns in self._last:
                whole.append(self._order(turns))
            return turns not in self._last
        stuck, ends = False, False
        for thread, count in enumerate(left):
            if count and self._ends((*turns, thread)):
                ends = True
                left[thread] -= 1
                stuck = self._extend((*turns, thread), left, whole) or stuck
                left[thread] += 1
        return stuck or not ends

    def _order(self, turns: tuple[int, ...]) -> Order:
        results: list[list[Result]] = [[] for _ in self._scenario.threads]
        for end, thread in enumerate(turns, 1):
            result = self._known[turns[:end]]
            assert result is not None
            results[thread].append(result)
        return Order(turns, (*map(tuple, results), self._last[turns]))


def orders_of(scenario: Scenario, make: Callable[[], object]) -> Orders:
    """What the calls return in each order, on an object that `make` makes. ValueError if there are too many orders.

    AttributeError or TypeError for a `Call` that the object does not have, or can't take.
    """
    count, placed = 1, 0
    for calls in scenario.threads:
        for number in range(1, len(calls) + 1):
            placed += 1
            count = count * placed // number
    if count > _MOST_ORDERS:
        raise ValueError(
            f"these calls have {count:,} orders, and at most {_MOST_ORDERS:,} are tried: take fewer threads, or fewer "
            "calls for each"
        )
    return _OneByOne(scenario, make).orders()
