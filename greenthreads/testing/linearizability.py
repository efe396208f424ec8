"""Linearizability: whether an object that many threads call at once behaves as if each call were made in one moment.

    check_linearizable(Cache, [Call("put", "a", 1), Call("get", "a"), Call("clear")])

An object is *linearizable* (Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects", TOPLAS
1990) if whatever its calls return when they are made at once, they could have returned as well when made one after the
other; in an order that keeps to what was seen: a call that had ended before another began comes before it.

So nobody has to say what is right. Scenarios are drawn from the calls; each is explored, and what its calls return in
an execution is looked for among what they return in some order (Wing and Gong, "Testing and Verifying Concurrent
Objects", JPDC 1993; all orders are tried before, for there are few).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from greenthreads.testing._memory import included, root_of
from greenthreads.testing._recorder import Announcement
from greenthreads.testing._scenarios import Call, Scenario, in_words, orders_of, perform, scenarios
from greenthreads.testing.explore import explore
from scheduler import control
from scheduler.kernel import current_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenthreads.testing._exploration import Exploration, Failure
    from greenthreads.testing._scenarios import Order, Result
    from scheduler.control import Footprint
    from scheduler.task import Task

__all__ = ["Call", "Linearizability", "NotLinearizable", "check_linearizable"]

_now = time.monotonic
# How many scenarios may be left out, for each that is asked for.
_MOST_SKIPPED = 10

Consistency = Literal["linearizable", "sequential"]


class NotLinearizable(AssertionError):
    """Calls that were made at once returned what they return in no order; or wait for good, as they do in no order.

    `scenario` is the smallest that was found, `failure` the Failure of its exploration.
    """

    scenario: Scenario
    failure: Failure


class Linearizability:
    """What a check has seen that found nothing.

    `scenarios` is how many were explored, in `executions`; `exhausted` of how many every schedule was seen; `skipped`
    how many were left out, since some order of their calls waits for good. `coverage` says it in a sentence.
    """

    def __init__(self) -> None:
        self.scenarios = 0
        self.executions = 0
        self.exhausted = 0
        self.skipped = 0
        self.seconds = 0.0

    @property
    def coverage(self) -> str:
        """What was covered."""
        text = f"{self.scenarios} scenario{'s' * (self.scenarios != 1)}, {self.executions} executions: "
        text += f"every schedule of {'all' if self.exhausted == self.scenarios else self.exhausted}"
        if self.skipped:
            text += f"; {self.skipped} more left out, for some order of their calls waits for good"
        return text

    def __repr__(self) -> str:
        return f"<Linearizability: {self.coverage}>"


class _History(Announcement):
    """What happens in one execution: calls begin, and return. Two such events of two threads are dependent, if one of
    them is a return and the other a beginning: which comes first says whether there is an order to be kept.
    """

    def __init__(self, scenario: Scenario, consistency: Consistency) -> None:
        count = len(scenario.threads)
        self.results: list[list[Result]] = [[] for _ in range(count)]
        self.last: tuple[Result, ...] = ()
        # (thread, which of its calls, whether it returns)
        self.events: list[tuple[int, int, bool]] = []
        self._watches = consistency == "linearizable"
        self._ended: list[Footprint] = [((thread, True),) for thread in range(count)]
        self._begins: list[Footprint] = [
            tuple((other, False) for other in range(count) if other != thread) for thread in range(count)
        ]
        # For the report: what each thread is about to begin, or to return.
        self._words: dict[Task, str] = {}

    def in_words(self, task: Task) -> str:
        """See `Announcement`."""
        return self._words[task]

    def make(self, thread: int, number: int, call: Callable[[Any], object], obj: object) -> None:
        """Make a call, and keep what it returns."""
        self._say("call", in_words(call), self._begins[thread])
        self.events.append((thread, number, False))
        result = perform(call, obj)
        self._say("return", str(result), self._ended[thread])
        self.events.append((thread, number, True))
        self.results[thread].append(result)

    def _say(self, op: str, words: str, footprint: Footprint) -> None:
        if control.active is not None and self._watches:
            self._words[current_task()] = words
            control.active.step(op, self, None, None, footprint)

    def has(self, order: Order) -> bool:
        """Whether the calls have returned what they return in `order`."""
        return order.results == (*map(tuple, self.results), self.last)

    def keeps_to(self, order: Order) -> bool:
        """Whether calls that had ended before others began come before them in `order`."""
        counts = [0] * len(self.results)
        place: dict[tuple[int, int], int] = {}
        for position, thread in enumerate(order.turns):
            place[thread, counts[thread]] = position
            counts[thread] += 1
        latest = -1
        for thread, number, returns in self.events:
            if returns:
                latest = max(latest, place[thread, number])
            elif place[thread, number] < latest:
                return False
        return True


def check_linearizable(
    make: Callable[[], object],
    calls: Sequence[Callable[[Any], object]],
    *,
    afterwards: Sequence[Callable[[Any], object]] = (),
    model: Callable[[], object] | None = None,
    threads: int = 2,
    calls_each: int = 3,
    max_scenarios: int = 100,
    max_seconds: float | None = 10.0,
    seed: int = 0,
    scenario: Sequence[Sequence[Callable[[Any], object]]] | None = None,
    consistency: Consistency = "linearizable",
    strategy: str = "dpor",
    max_executions: int | None = 2_000,
    **options: Any,
) -> Linearizability:
    """Call objects that `make()` makes from several threads at once: do the calls return what they do in some order?

    `calls` are those to draw from: `Call`s of methods, or functions of the object. Two to `threads` threads make up to
    `calls_each` of them each, after which the main thread makes those of `afterwards`, to see what has become of the
    object. First each pair of calls, then scenarios that grow, drawn by `seed`: `max_scenarios` of them, or as many as
    `max_seconds` allow. With `scenario` only that one: the calls of each thread.

    What is right is what an object of `model()` (None: of `make()`) returns when the same calls are made by one thread.
    Results are compared with `==`, exceptions by type and arguments. A scenario is left out if some order of its calls
    waits for good. With `consistency="sequential"` calls of different threads may change places whatever was seen.

    `strategy`, `max_executions` (of each scenario) and the `options` are those of `explore`. Blocks. Raises
    NotLinearizable with a report, for the smallest scenario that it can find. ValueError for a scenario that has more
    than 2,000 orders; AttributeError or TypeError for a `Call` that the object does not have, or can't take. Errors of
    `explore` are raised as they are, and so is what `make` raises.
    """
    __tracebackhide__ = True
    model = model or make
    _check(calls, make, model, consistency, threads=threads, calls_each=calls_each, max_scenarios=max_scenarios)
    began = _now()
    given = None if scenario is None else Scenario(tuple(tuple(each) for each in scenario), tuple(afterwards))
    drawn = iter([given]) if given is not None else scenarios(calls, tuple(afterwards), threads, calls_each, seed)
    # The function that is explored is this package's, and the project that of `make`.
    options = {"strategy": strategy, "max_executions": max_executions, "seed": seed, "root": root_of(make), **options}
    options["include"] = included(options.get("include", ()), make)
    search = _Search(make, model, consistency, options)
    seen = Linearizability()
    end = None if max_seconds is None else began + max_seconds
    for each in drawn:
        left = None if end is None else end - _now()
        if seen.scenarios >= max_scenarios or (left is not None and left <= 0):
            break
        found = search.explore(each, left)
        if found is None:
            seen.skipped += 1
            if seen.skipped > _MOST_SKIPPED * max_scenarios:
                break  # It seems that they all wait.
            continue
        seen.scenarios += 1
        seen.executions += found.executions
        seen.exhausted += found.exhausted
        if found.failure is not None:
            raise search.smallest(each, found, max_seconds) from None
    seen.seconds = _now() - began
    return seen


def _check(calls: Any, make: object, model: object, consistency: str, **least: int) -> None:
    if isinstance(calls, (str, bytes, Call)) or not calls or not all(map(callable, calls)):
        raise TypeError(f"calls must be functions of the object, such as [Call('get', 'key')], not {calls!r}")
    for name, function in (("make", make), ("model", model)):
        if not callable(function):
            raise TypeError(f"{name} must be a function that makes an object, or its class, not {function!r}")
    for name, value in least.items():
        if value < _LEAST[name]:
            raise ValueError(f"{name} must be at least {_LEAST[name]}, not {value!r}")
    if consistency not in ("linearizable", "sequential"):
        raise ValueError(f"consistency must be 'linearizable' or 'sequential', not {consistency!r}")


_LEAST: Final = {"threads": 2, "calls_each": 1, "max_scenarios": 1}


class _Search:
    """Explores scenarios of one object."""

    def __init__(
        self,
        make: Callable[[], object],
        model: Callable[[], object],
        consistency: Consistency,
        options: dict[str, Any],
    ) -> None:
        self._make, self._model, self._consistency = make, model, consistency
        self._options = options

    def explore(self, scenario: Scenario, seconds: float | None, shrinking: bool = False) -> Exploration | None:
        """Explore a scenario; None if some order of its calls waits for good."""
        orders = orders_of(scenario, self._model)
        if orders.may_wait_for_good:
            return None
        # A variable of the function: there a standard class is replaced for the exploration.
        make = self._make

        def calls_at_once() -> None:
            obj = make()
            history = _History(scenario, self._consistency)

            def run(thread: int) -> None:
                for number, call in enumerate(scenario.threads[thread]):
                    history.make(thread, number, call, obj)

            threads = [threading.Thread(target=run, args=(thread,)) for thread in range(len(scenario.threads))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            history.last = tuple(perform(call, obj) for call in scenario.afterwards)
            _look_for_an_order(scenario, history, orders.whole, self._consistency)

        calls_at_once.__module__ = getattr(self._make, "__module__", "")

        def again(trace: str) -> str:
            name = getattr(self._make, "__name__", "")
            maker = name if name.isidentifier() else "make"
            return f"check_linearizable({maker}, calls, scenario=[{scenario}], first=[{trace!r}])"

        options = {"shrinking": shrinking, "replay_command": again, **self._options}
        return explore(calls_at_once, max_seconds=seconds, **options)

    def smallest(self, scenario: Scenario, found: Exploration, seconds: float | None) -> NotLinearizable:
        """Take calls away from a scenario as long as it fails; what to raise."""
        smaller = True
        while smaller:
            smaller = False
            for less in _less(scenario):
                again = self.explore(less, seconds)
                if again is not None and again.failure is not None:
                    scenario, found, smaller = less, again, True
                    break
        found = self.explore(scenario, None, shrinking=True) or found
        assert found.failure is not None
        error = NotLinearizable(found.failure.report())
        error.scenario, error.failure = scenario, found.failure
        return error


def _less(scenario: Scenario) -> list[Scenario]:
    """The scenarios that have one call less, and those without calls afterwards."""
    found = []
    for thread, calls in enumerate(scenario.threads):
        for number in range(len(calls)):
            rest = calls[:number] + calls[number + 1 :]
            others = scenario.threads[:thread] + ((rest,) if rest else ()) + scenario.threads[thread + 1 :]
            found.append(scenario._replace(threads=others))
    return found


def _look_for_an_order(
    scenario: Scenario, history: _History, orders: list[Order], consistency: Consistency
) -> None:
    __tracebackhide__ = True
    same = [order for order in orders if history.has(order)]
    if same and (consistency == "sequential" or any(map(history.keeps_to, same))):
        return
    if same:
        what = "these calls return this in no order that keeps to which of them had ended before others began:"
    else:
        what = "these calls return this in no order:"
    lines = [what]
    for thread, calls in enumerate(scenario.threads):
        lines.append(f"  thread {thread + 1}: {_with_results(calls, history.results[thread])}")
    if scenario.afterwards:
        lines.append(f"  afterwards: {_with_results(scenario.afterwards, history.last)}")
    raise NotLinearizable("\n".join(lines))


def _with_results(calls: Sequence[Callable[[Any], object]], results: Sequence[Result]) -> str:
    return ", ".join(f"{in_words(call)} -> {result}" for call, result in zip(calls, results, strict=True))
