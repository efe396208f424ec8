"""Iteration: what instrumented code calls around its loops, and where it takes an iterable apart.

Between the instrumented code and an iterator there is only C, see `steps`: tracebacks stay those of the plain run. What
a step touches hangs on the iterator, and there is a generator of announcements for each sort: by index, by key, by size
only where the keys can't be known, and one for all the others.
"""

from __future__ import annotations

import gc
import operator
import sys
import types

# A program under test may put others in their place, if only for a moment.
from builtins import len, map, next, type  # noqa: UP029
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._accesses import announce_sizes, whole, write_variables
from greenthreads.testing._announcing import (
    announce,
    announce_all,
    announce_one,
    announced,
    enter,
    is_fresh_expression,
)
from greenthreads.testing._containers import (
    ADAPTERS,
    DEQUE_ITERATOR,
    ITERATORS,
    KEY_ITERATORS,
    LIST_ITERATOR,
    READ_SIZE,
    READ_WHOLE,
    STEP,
    VIEWS,
    WRITE_WHOLE,
    ByType,
    generators,
    underlying,
)
from scheduler import control
from scheduler.control import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.control import Footprint

__all__ = ["ITERATION"]

_ITER: Final = ByType("__iter__")
_STEP: Final = ByType(STEP)


def before_iter(obj: Any) -> Any:
    """Before `iter(obj)`."""
    operation = _ITER[type(obj)]
    if operation is not None:
        announce(obj, operation, ())
    elif type(obj) in VIEWS:
        announce_sizes(obj)
    return obj


def unpacked(iterator: Any) -> Any:
    """`iterator`, whose items are unpacked one by one."""
    return map(whole, iterator)


def stores(iterator: Any, *variables: Any) -> Any:
    """`iterator`, whose items are stored to shared variables one by one."""

    def stored(item: Any) -> Any:
        return write_variables(whole(item), *variables)

    return map(stored, iterator)


def _references(thing: object) -> int:
    return sys.getrefcount(thing)


# The references to an argument that nobody but its caller's stack holds.
_UNSHARED: Final = _references(iter([]))


def steps(iterator: Any) -> Any:
    """`iterator`, with an announcement before each step.

    A generator makes the announcements and hands the iterator to `next`, called by `map`: between the instrumented
    code and the iterator there is only C. An iterator that was made for this loop alone is nobody else's to step.
    """
    kind = type(iterator)
    if kind not in ITERATORS and kind is not types.GeneratorType:
        return iterator
    shared = sys.getrefcount(iterator) > _UNSHARED
    if kind is LIST_ITERATOR and not shared:
        # The commonest loop, found out without asking around: it has its list, or nothing any more.
        lists = gc.get_referents(iterator)
        if lists and type(lists[0]) is list:
            return map(next, _steps_of_list(iterator, lists[0]))
        return map(next, _steps_by_index(iterator, lists[0], iterator)) if lists else iterator
    if kind is types.GeneratorType:
        return map(next, _any_steps(iterator, [(iterator, WRITE_WHOLE)])) if shared else iterator
    sources = list(underlying(iterator))
    if kind in ADAPTERS:
        stepped = [(each, WRITE_WHOLE) for each in generators(iterator) if not is_fresh_expression(each)]
        if stepped:
            mine = [(iterator, WRITE_WHOLE)] if shared else []
            return map(next, _any_steps(iterator, [*((each, READ_WHOLE) for each in sources), *stepped, *mine]))
    if shared:
        return map(next, _any_steps(iterator, [*((each, READ_WHOLE) for each in sources), (iterator, WRITE_WHOLE)]))
    if not sources:
        return iterator
    source = sources[0]
    if kind is enumerate and len(sources) == 1:
        # (The iterator that it stands on, and a pair kept for reuse.)
        inner = next(each for each in gc.get_referents(iterator) if type(each) in ITERATORS)
        if type(inner) is LIST_ITERATOR or type(inner) is DEQUE_ITERATOR:
            return map(next, _steps_by_index(iterator, source, inner))
    if kind is LIST_ITERATOR or kind is DEQUE_ITERATOR:
        return map(next, _steps_by_index(iterator, source, iterator))
    if kind in KEY_ITERATORS:
        return map(next, _steps_by_size(iterator, source))
    if kind not in ADAPTERS and type(source) is dict and operator.length_hint(iterator) == len(source):
        return map(next, _steps_by_key(iterator, source))
    return map(next, _any_steps(iterator, [(each, READ_WHOLE) for each in sources]))


def _steps_of_list(iterator: Any, source: list[Any]) -> Iterator[Any]:
    # As `_steps_by_index`, with `announce` and the operation of lists written out.
    index = len(source) - operator.length_hint(iterator)
    while True:
        access = control.access
        if access is not None:
            while True:
                is_there = index < len(source)
                footprint = ((SIZE, False), (index, False)) if is_there else READ_SIZE
                if control.note is not None:
                    announce_one(access, source, footprint)
                else:
                    announced[0] += 1
                    access(source, footprint)
                if is_there is (index < len(source)):
                    break
        yield iterator
        index += 1


def _steps_by_index(iterator: Any, source: Any, counting: Any) -> Iterator[Any]:
    index = len(source) - operator.length_hint(counting)
    del counting
    while True:
        access = control.access
        if access is not None:
            announce(source, _STEP[type(source)], (index,))
        yield iterator
        index += 1


def _steps_by_size(iterator: Any, source: Any) -> Iterator[Any]:
    while True:
        access = control.access
        if access is not None:
            announce_one(access, source, READ_SIZE)
        yield iterator


def _steps_by_key(iterator: Any, source: dict[Any, Any]) -> Iterator[Any]:
    # A second iterator over the same dict is one step ahead and knows the key. A dict that changes stops both.
    ahead = dict.__iter__(source)
    while True:
        try:
            key = next(ahead)
        except (StopIteration, RuntimeError):
            announce_sizes(source)
        else:
            announce(source, _STEP[type(source)], (key,))
        yield iterator


def _any_steps(iterator: Any, accesses: list[tuple[Any, Footprint]]) -> Iterator[Any]:
    mine = [each for each, _footprint in accesses if type(each) is types.GeneratorType]
    while True:
        if control.access is not None:
            announce_all(accesses)
            enter(mine)
        yield iterator


# By the names that the rewritten code knows them by.
ITERATION: Final[dict[str, Any]] = {
    function.__name__: function for function in (before_iter, steps, stores, unpacked)
}
