"""Tests of Hypothesis: each example is explored, not the function that draws them.

Hypothesis draws inputs, calls the test with each, and once one fails, looks for a smaller one. An exploration of all
that would have it draw others in each execution. So what is exchanged is the function that is called with what was
drawn. Hypothesis keeps it as `hypothesis.inner_test`, for those who run tests in a way of their own.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from greenthreads.testing._search import MOST_EXECUTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["draws_while_it_runs", "each_example", "has_examples", "most_examples", "options_of_one"]

def has_examples(function: Any) -> bool:
    """Whether `function` is a test that `given` has made."""
    return hasattr(getattr(function, "hypothesis", None), "inner_test")


def draws_while_it_runs(function: Any) -> bool:
    """Whether it is a test of Hypothesis's that has no examples: what a state machine does next is drawn as it goes."""
    return getattr(function, "is_hypothesis_test", False) is True and not has_examples(function)


@contextlib.contextmanager
def each_example(function: Any, explored: Callable[[Callable[[], object]], object]) -> Iterator[None]:
    """While this is entered, call `explored(run)` where the test would be called, with what makes that call.

    Meanwhile there is no deadline, which is one for a call and not for an exploration; nor does Hypothesis explain
    failures, which it does by the lines that have run, ours among them. Inside of another one it changes nothing: the
    outermost explores.
    """
    function = getattr(function, "__func__", function)
    handle, settings = function.hypothesis, getattr(function, "_hypothesis_internal_use_settings", None)
    inner = handle.inner_test
    if hasattr(inner, "explores_each"):
        yield
        return

    @functools.wraps(inner)
    def explored_inner(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        # With `interleave` below `given` the test explores by itself.
        test = vars(inner)["__wrapped__"] if getattr(inner, "interleaved", None) is inner else inner
        for each in (*args, *kwargs.values()):
            if type(each).__name__ == "DataObject":  # Not every version has the class where others may see it.
                raise TypeError(
                    "data() draws while the test runs, and would draw something else in each execution: "
                    "give what is drawn as an argument"
                )
        explored(functools.partial(test, *args, **kwargs))

    explored_inner.explores_each = True  # type: ignore[attr-defined]
    handle.inner_test = explored_inner
    if settings is not None:
        phases = [phase for phase in settings.phases if phase.name != "explain"]
        function._hypothesis_internal_use_settings = type(settings)(settings, deadline=None, phases=phases)
    try:
        yield
    finally:
        handle.inner_test = inner
        if settings is not None:
            function._hypothesis_internal_use_settings = settings


def most_examples(function: Any) -> int:
    """How many examples a test is called with, at the most, while none fails."""
    function = getattr(function, "__func__", function)
    return getattr(getattr(function, "_hypothesis_internal_use_settings", None), "max_examples", 100)


def options_of_one(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an exploration of one example, where `options` are the test's: each has its part of the limits.

    If they say nothing of time, it is executions alone that are counted: an example that has failed shall fail again.
    One process explores it, whatever they say: to fork takes longer than most examples.
    """
    examples = most_examples(function)
    seconds = options.get("max_seconds")
    executions = options.get("max_executions", MOST_EXECUTIONS)
    # What `assume` raises: then it is no example.
    from hypothesis.errors import UnsatisfiedAssumption

    return {
        **options,
        "max_executions": None if executions is None else max(1, executions // examples),
        "max_seconds": None if seconds is None else seconds / examples,
        "passes": (UnsatisfiedAssumption, *options.get("passes", ())),
        "workers": 1,
    }
