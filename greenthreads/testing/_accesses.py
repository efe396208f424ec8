"""What instrumented code calls: each function announces one access, and does nothing else.

None of them carries the access out. It is done by the instrumented code itself, right after the announcement, by the
same instruction as in the plain code or by a function of C that stands for it. So no frame of this module is on the
stack while code of the program runs, or when an exception leaves the access: tracebacks are those of the plain run.

    obj.x           read_attribute(obj, NAME).x
    obj[k]          getitem(*read_item(obj, k))
    obj[k], y = v   write_item(obj, k).value, y = v     (`value` is a property of C, see `Store`)
    f(a, b)         called(f)(a, b), or call(f, a, b)()
    obj.add(k)      method("add", obj.add, k)(k), if `k` may be evaluated twice
    for x in obj    for x in steps(iter(obj))
    while a:        loop_begins(NAME); while next_round(NAME) and a:

The one exception is a built-in that comes under a name which tells nothing, and raises: see `_Announcing`.
"""

from __future__ import annotations

import collections
import gc
import inspect
import operator
import sys
import types

# A program under test may put others in their place, if only for a moment.
from builtins import id, isinstance, len, map, next, type  # noqa: UP029
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._containers import (
    ADAPTERS,
    DEQUE_ITERATOR,
    ITERATORS,
    KEY_ITERATORS,
    LIST_ITERATOR,
    READ_SIZE,
    READ_WHOLE,
    STEP,
    TABLES,
    VIEWS,
    WRITE_WHOLE,
    ByType,
    forget_containers,
    generators,
    underlying,
)
from greenthreads.testing._names import AttributeName, Variable, forget_types
from scheduler import control
from scheduler.continuation import current
from scheduler.control import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from greenthreads.testing._containers import Operation
    from scheduler.control import Footprint

__all__ = ["ACCESSES", "announce", "announce_all", "announce_read", "deep", "enter", "forget_classes", "fresh", "tell"]

_GETITEM: Final = ByType("__getitem__")
_SETITEM: Final = ByType("__setitem__")
_DELITEM: Final = ByType("__delitem__")
_CONTAINS: Final = ByType("__contains__")
_ITER: Final = ByType("__iter__")
_LEN: Final = ByType("__len__")
_TRUTH: Final = ByType("__len__", unless="__bool__")
_STEP: Final = ByType(STEP)

# Neither containers nor anything that contains one.
_SCALARS: Final = frozenset({int, float, bool, str, bytes, types.NoneType})

# Counts the announcements of all threads: unchanged, nobody else touched memory since.
_announced = 0

# Threads whose last announcement was of a read whose value has not been told yet. Kept only while there is a `note`.
_to_note: set[int] = set()


def _before(access: Callable[[Any, Footprint], None], obj: Any, footprint: Footprint) -> None:
    """Announce one access; the fast paths below have this written out."""
    global _announced
    _announced += 1
    if control.note is not None:
        _to_note.add(id(current()))
    access(obj, footprint)


def announce(container: Any, operation: Operation, args: tuple[Any, ...]) -> None:
    """Announce an operation of a container, whose footprint may depend on the container's state.

    The hook may let other threads run. If one of them has touched memory meanwhile, the footprint is computed anew,
    and announced anew if it is another: what is announced last is what the operation then does.
    """
    global _announced
    access = control.access
    if access is None:
        return
    footprint = operation(container, args)
    while footprint:
        _announced += 1
        mine = _announced
        if control.note is not None:
            _to_note.add(id(current()))
        access(container, footprint)
        if mine == _announced:
            return
        now = operation(container, args)
        if now == footprint:
            return
        footprint = now


def announce_all(accesses: list[tuple[Any, Footprint]]) -> None:
    """Announce what one operation touches in several objects."""
    global _announced
    if len(accesses) > 1 and control.accesses is not None:
        _announced += 1
        if control.note is not None:
            _to_note.add(id(current()))
        control.accesses(tuple(accesses))
        return
    for container, footprint in accesses:
        access = control.access
        if access is not None:
            _before(access, container, footprint)


def announce_read(things: Iterable[object]) -> None:
    """Announce that an operation of C reads all of each of `things` that is a container, or reads from one."""
    if control.access is None:
        return
    found: dict[int, tuple[Any, Footprint]] = {}
    for thing in things:
        kind = type(thing)
        if kind in _SCALARS:
            continue
        if kind in ITERATORS:
            found[id(thing)] = (thing, WRITE_WHOLE)
            if kind in ADAPTERS:
                found.update((id(each), (each, WRITE_WHOLE)) for each in generators(thing))
        elif kind is types.GeneratorType:
            if not _is_fresh_expression(thing):
                found.update((id(each), (each, WRITE_WHOLE)) for each in generators(thing))
            continue
        elif kind not in VIEWS and not TABLES[kind]:
            continue
        for container in underlying(thing):
            found.setdefault(id(container), (container, READ_WHOLE))
    if found:
        announce_all(list(found.values()))
        enter([each for each, _footprint in found.values() if type(each) is types.GeneratorType])


def enter(generators: list[Any]) -> None:
    """After the announcement of a step of them."""
    if generators and control.entering is not None:
        control.entering(generators)


def _is_fresh_expression(thing: Any) -> bool:
    """Whether it is a generator expression that nobody has stepped: nearly always one that is made for this use."""
    return thing.__name__ == "<genexpr>" and inspect.getgeneratorstate(thing) == inspect.GEN_CREATED


def deep(things: Iterable[object], limit: int = 64) -> Iterator[object]:
    """The containers that comparing or printing things comes by, those inside of others included."""
    pending = list(things)
    seen: set[int] = set()
    while pending and len(seen) < limit:
        each = pending.pop(0)
        kind = type(each)
        if kind in _SCALARS or id(each) in seen:
            continue
        if kind is not tuple and kind is not frozenset and kind not in VIEWS and not TABLES[kind]:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, dict):
            pending.extend(dict.values(each))
        elif isinstance(each, (list, tuple, collections.deque)) and len(each) < limit:
            pending.extend(each)


# Attributes


def read_attribute(obj: Any, name: AttributeName) -> Any:
    """Before `obj.name`."""
    how = name[type(obj)]
    if how is not None:
        access = control.access
        if access is not None:
            if how is True:
                global _announced
                _announced += 1
                if control.note is not None:
                    _to_note.add(id(current()))
                access(obj, name.read)
            else:
                announce_all(how(obj))
    return obj


def write_attribute(obj: Any, name: AttributeName) -> Any:
    """Before `obj.name` is set or deleted; returns the object."""
    how = name.written[type(obj)]
    if how is not None:
        access = control.access
        if access is not None:
            if how is True:
                global _announced
                _announced += 1
                access(obj, name.write)
            else:
                announce_all(how(obj))
    return obj


def set_attribute(value: Any, obj: Any, name: AttributeName) -> tuple[Any, str, Any]:
    """Before `obj.name = value`: the arguments of `setattr`."""
    write_attribute(obj, name)
    tell(value)
    return obj, name.name, value


# Items


class Store(partial):  # type: ignore[type-arg]
    """A place to store to: `place.value = v` calls the partial with `v`.

    A partial's call and a property's setter are both of C: an item is set from here without a frame of this module.
    """

    value = property(None, partial.__call__)


def read_key(obj: Any, key: Any) -> Any:
    """Before `obj[key]`: the key."""
    operation = _GETITEM[type(obj)]
    if operation is not None:
        announce(obj, operation, (key,))
    elif type(obj) in VIEWS:
        announce_read((obj,))
    return key


def read_item(obj: Any, key: Any) -> tuple[Any, Any]:
    """The same: the arguments of `operator.getitem`."""
    return obj, read_key(obj, key)


def write_key(obj: Any, key: Any) -> Any:
    """Before `obj[key] = ...`: the key."""
    operation = _SETITEM[type(obj)]
    if operation is not None:
        announce(obj, operation, (key,))
    return key


def write_item(obj: Any, key: Any) -> Store:
    """The same, as one of several targets."""
    return Store(operator.setitem, obj, write_key(obj, key))


def set_item(value: Any, obj: Any, key: Any) -> tuple[Any, Any, Any]:
    """Before `obj[key] = value`: the arguments of `operator.setitem`."""
    operation = _SETITEM[type(obj)]
    if operation is not None:
        announce(obj, operation, (key,))
        tell(value)
    return obj, key, value


def delete_item(obj: Any, key: Any) -> tuple[Any, Any]:
    """Before `del obj[key]`: the arguments of `operator.delitem`."""
    operation = _DELITEM[type(obj)]
    if operation is not None:
        announce(obj, operation, (key,))
    return obj, key


def container(item: Any, obj: Any) -> Any:
    """Before `item in obj`: the container."""
    operation = _CONTAINS[type(obj)]
    if operation is not None:
        announce(obj, operation, (item,))
    elif type(obj) not in _SCALARS:
        announce_read((obj,))
    return obj


def contains_item(item: Any, obj: Any) -> tuple[Any, Any]:
    """The same: the arguments of `operator.contains`."""
    return container(item, obj), item


def truth(obj: Any) -> Any:
    """Before `obj` is tested: an empty container is false."""
    operation = _TRUTH[type(obj)]
    if operation is not None:
        announce(obj, operation, ())
    return obj


def sized(obj: Any) -> Any:
    """Before `len(obj)`."""
    operation = _LEN[type(obj)]
    if operation is not None:
        announce(obj, operation, ())
    elif type(obj) in VIEWS:
        for each in underlying(obj):
            announce(each, _LEN[type(each)], ())
    return obj


def whole(obj: Any) -> Any:
    """Before all of `obj` is read at one place: unpacked, spread as arguments."""
    if type(obj) is not tuple:
        announce_read((obj,))
    return obj


def shown(obj: Any) -> Any:
    """Before `obj` is formatted or matched, with what is inside of it."""
    if type(obj) not in _SCALARS:
        announce_read(deep((obj,)))
    return obj


def right(left: Any, operand: Any) -> Any:
    """Before an operator of C reads both operands: the right one."""
    if type(operand) not in _SCALARS:
        announce_read(deep((left, operand)))
    elif type(left) not in _SCALARS:
        announce_read(deep((left,)))
    return operand


def two(left: Any, operand: Any) -> tuple[Any, Any]:
    """The same: both."""
    return left, right(left, operand)


def in_place(left: Any, operand: Any, name: str) -> Any:
    """Before `left += operand` and its like, which change a container: the operand."""
    operation = TABLES[type(left)].get(name)
    if type(operand) not in _SCALARS and operand is not left:
        announce_read((operand,))
    if operation is not None:
        announce(left, operation, (operand,))
    return operand


def in_place_two(left: Any, operand: Any, name: str) -> tuple[Any, Any]:
    """The same: the arguments of `operator.iadd` and its like."""
    return left, in_place(left, operand, name)


def matched(obj: Any, *names: AttributeName) -> Any:
    """Before `match obj`, whose patterns read these attributes."""
    shown(obj)
    for name in names:
        if hasattr(type(obj), name.name) or name.name in getattr(obj, "__dict__", ()):
            read_attribute(obj, name)
    return obj


# Variables


def read_global(variable: Variable) -> bool:
    """Before a global is read. True, so that it can stand as a condition."""
    access = control.access
    if access is not None:
        global _announced
        _announced += 1
        if control.note is not None:
            _to_note.add(id(current()))
        access(variable.namespace, variable.read)
    return True


def read_cell(capture: Any, variable: Variable) -> bool:
    """Before a closure variable is read. `capture` is a closure over it and nothing else, for its cell."""
    access = control.access
    if access is not None:
        _before(access, capture.__closure__[0], variable.read)
    return True


def write_variables(value: Any, *variables: Any) -> Any:
    """Before globals and closure variables are set or deleted (each one followed by its `capture`, or None)."""
    access = control.access
    if access is not None:
        if len(variables) == 2:
            variable, capture = variables
            global _announced
            _announced += 1
            access(variable.namespace if capture is None else capture.__closure__[0], variable.write)
            if control.note is not None:
                tell(value)
            return value
        found = []
        for variable, capture in zip(variables[::2], variables[1::2], strict=True):
            found.append((variable.namespace if capture is None else capture.__closure__[0], variable.write))
        announce_all(found)
        tell(value)
    return value


# Loops


def loop_begins(loop: str) -> None:
    """Before a `while` loop."""
    if control.rounds is not None:
        control.rounds(loop, True)


def next_round(loop: str) -> bool:
    """Before a round of it. True, so that it can stand in a condition."""
    if control.rounds is not None:
        control.rounds(loop, False)
    return True


# Iteration


def before_iter(obj: Any) -> Any:
    """Before `iter(obj)`."""
    operation = _ITER[type(obj)]
    if operation is not None:
        announce(obj, operation, ())
    elif type(obj) in VIEWS:
        for each in underlying(obj):
            announce(each, _LEN[type(each)], ())
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
        stepped = [(each, WRITE_WHOLE) for each in generators(iterator) if not _is_fresh_expression(each)]
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
    global _announced
    index = len(source) - operator.length_hint(iterator)
    while True:
        access = control.access
        if access is not None:
            while True:
                is_there = index < len(source)
                footprint = ((SIZE, False), (index, False)) if is_there else READ_SIZE
                if control.note is not None:
                    _before(access, source, footprint)
                else:
                    _announced += 1
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
            _before(access, source, READ_SIZE)
        yield iterator


def _steps_by_key(iterator: Any, source: dict[Any, Any]) -> Iterator[Any]:
    # A second iterator over the same dict is one step ahead and knows the key. A dict that changes stops both.
    ahead = dict.__iter__(source)
    while True:
        try:
            key = next(ahead)
        except (StopIteration, RuntimeError):
            announce(source, _LEN[type(source)], ())
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


def tell(value: Any) -> None:
    """Tell the value that is about to be written."""
    if control.note is not None:
        _to_note.discard(id(current()))
        control.note(value)


def noted(value: Any) -> Any:
    """After a read: tells its value, if the read was announced. Only in the code that runs with a `note`."""
    if control.note is not None and id(current()) in _to_note:
        _to_note.discard(id(current()))
        control.note(value)
    return value


def fresh() -> None:
    """Forget what was left of an earlier run."""
    _to_note.clear()
    forget_classes()


def forget_classes() -> None:
    """Forget what is known of types; it is found out anew when it is asked for."""
    forget_types()
    forget_containers()


# By the names that the rewritten code knows them by. Those of C carry an access out.
ACCESSES: Final[dict[str, Any]] = {
    **{name: getattr(operator, name) for name in operator.__all__},
    "iter": iter,
    "setattr": setattr,
    "slice": slice,
    **{
        function.__name__: function
        for function in (
            before_iter, container, contains_item, delete_item, in_place, in_place_two, loop_begins, matched,
            next_round, noted, read_attribute, read_cell, read_global, read_item, read_key, right, set_attribute,
            set_item, shown, sized, steps, stores, truth, two,
            unpacked, whole, write_attribute, write_item, write_key, write_variables,
        )
    },
}  # fmt: skip
