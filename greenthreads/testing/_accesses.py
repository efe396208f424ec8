"""What instrumented code calls: each function announces one access, and does nothing else.

None of them carries the access out. It is done by the instrumented code itself, right after the announcement, by the
same instruction as in the plain code or by a function of C that stands for it. So no frame of this module is on the
stack while code of the program runs, or when an exception leaves the access: tracebacks are those of the plain run.

    obj.x           read_attribute(obj, NAME).x
    obj[k]          getitem(*read_item(obj, k))
    obj[k], y = v   write_item(obj, k).value, y = v     (`value` is a property of C, see `Store`)
    f(a, b)         called(f)(a, b), or call(f, a, b)()
    for x in obj    for x in steps(iter(obj))

The one exception is a built-in that comes under a name which tells nothing, and raises: see `_Announcing`.
"""

from __future__ import annotations

import array
import bisect
import collections
import copy
import functools
import heapq
import json
import operator
import pickle
import random
import sys
import types
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._containers import (
    ADAPTERS,
    CONTAINERS,
    DEQUE_ITERATOR,
    ITERATORS,
    KEY_ITERATORS,
    LIST_ITERATOR,
    READ_WHOLE,
    STEP,
    VIEWS,
    WRITE_WHOLE,
    footprint_of,
    operations_of,
    underlying,
)
from greenthreads.testing._names import AttributeName, Variable, attribute_name, forget_types
from scheduler import control
from scheduler.continuation import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scheduler.control import Footprint

__all__ = ["HELPERS", "fresh"]

# Threads whose last announcement was of a read whose value has not been told yet. Kept only while there is a `note`.
_to_note: set[int] = set()

# Counts the announcements of all threads: unchanged, nobody else touched memory since.
_announced = 0


def announce(container: Any, name: str, args: tuple[Any, ...]) -> None:
    """Announce the operation `name` of a container, whose footprint may depend on the container's state.

    The hook may let other threads run. If one of them has touched memory meanwhile, the footprint is computed anew,
    and announced anew if it is another: what is announced last is what the operation then does.
    """
    access = control.access
    if access is None:
        return
    footprint = footprint_of(container, name, args)
    while footprint:
        _count()
        mine = _announced
        access(container, footprint)
        if mine == _announced:
            return
        now = footprint_of(container, name, args)
        if now == footprint:
            return
        footprint = now


def announce_all(accesses: list[tuple[Any, Footprint]]) -> None:
    """Announce what one operation touches in several objects."""
    if len(accesses) > 1 and control.accesses is not None:
        _count()
        control.accesses(tuple(accesses))
        return
    for container, footprint in accesses:
        if control.access is not None:
            _count()
            control.access(container, footprint)


def announce_read(things: Iterable[object]) -> None:
    """Announce that an operation of C reads all of each of `things` that is a container, or reads from one."""
    if control.access is None:
        return
    found: dict[int, tuple[Any, Footprint]] = {}
    for thing in things:
        kind = type(thing)
        if kind in ITERATORS:
            found[id(thing)] = (thing, WRITE_WHOLE)
        elif kind not in VIEWS and not operations_of(kind):
            continue
        for container in underlying(thing):
            found.setdefault(id(container), (container, READ_WHOLE))
    if found:
        announce_all(list(found.values()))


def _deep(things: Iterable[object], limit: int = 64) -> Iterator[object]:
    # The containers that comparing or printing comes by, those inside of others included.
    pending = list(things)
    seen: set[int] = set()
    while pending and len(seen) < limit:
        each = pending.pop()
        kind = type(each)
        if kind is not tuple and kind is not frozenset and not operations_of(kind) and kind not in VIEWS:
            continue
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, dict):
            pending.extend(dict.values(each))
        elif isinstance(each, (list, tuple, collections.deque)):
            pending.extend(each if len(each) < limit else ())


# Attributes


def read_attribute(obj: Any, name: AttributeName) -> Any:
    """Before `obj.name`."""
    how = name[type(obj)]
    if how is None:
        return obj
    access = control.access
    if access is not None:
        if how is True:
            _count()
            access(obj, name.read)
        else:
            announce_all(how(obj))
    return obj


def write_attribute(obj: Any, name: AttributeName) -> Any:
    """Before `obj.name` is set or deleted; returns the object."""
    access = control.access
    if access is not None:
        place = name.written(obj)
        if place is not None:
            _count()
            access(place, name.write)
    return obj


def set_attribute(value: Any, obj: Any, name: AttributeName) -> tuple[Any, str, Any]:
    """Before `obj.name = value`: the arguments of `setattr`."""
    write_attribute(obj, name)
    if control.note is not None:
        control.note(value)
    return obj, name.name, value


def _count() -> None:
    global _announced
    _announced += 1
    if control.note is not None:
        _to_note.add(id(current()))


# Items


class Store(functools.partial):  # type: ignore[type-arg]
    """A place to store to: `place.value = v` calls the partial with `v`.

    A partial's call and a property's setter are both of C: an item is set from here without a frame of this module.
    """

    value = property(None, functools.partial.__call__)


def read_item(obj: Any, key: Any) -> tuple[Any, Any]:
    """Before `obj[key]`: the arguments of `operator.getitem`."""
    if "__getitem__" in operations_of(type(obj)):
        announce(obj, "__getitem__", (key,))
    elif type(obj) in VIEWS:
        announce_read((obj,))
    return obj, key


def write_item(obj: Any, key: Any) -> Store:
    """Before `obj[key] = ...` as one of several targets."""
    if "__setitem__" in operations_of(type(obj)):
        announce(obj, "__setitem__", (key,))
    return Store(operator.setitem, obj, key)


def set_item(value: Any, obj: Any, key: Any) -> tuple[Any, Any, Any]:
    """Before `obj[key] = value`: the arguments of `operator.setitem`."""
    if "__setitem__" in operations_of(type(obj)):
        announce(obj, "__setitem__", (key,))
        if control.note is not None:
            control.note(value)
    return obj, key, value


def delete_item(obj: Any, key: Any) -> tuple[Any, Any]:
    """Before `del obj[key]`: the arguments of `operator.delitem`."""
    if "__delitem__" in operations_of(type(obj)):
        announce(obj, "__delitem__", (key,))
    return obj, key


def contains_item(item: Any, obj: Any) -> tuple[Any, Any]:
    """Before `item in obj`: the arguments of `operator.contains`."""
    if "__contains__" in operations_of(type(obj)):
        announce(obj, "__contains__", (item,))
    else:
        announce_read((obj,))
    return obj, item


def truth(obj: Any) -> Any:
    """Before `obj` is tested: an empty container is false."""
    if "__len__" in operations_of(type(obj)) and not hasattr(type(obj), "__bool__"):
        announce(obj, "__len__", ())
    return obj


def whole(obj: Any) -> Any:
    """Before all of `obj` is read at one place: unpacked, spread as arguments."""
    if type(obj) is not tuple:
        announce_read((obj,))
    return obj


def shown(obj: Any) -> Any:
    """Before `obj` is formatted or matched, with what is inside of it."""
    if type(obj) is not str:
        announce_read(_deep((obj,)))
    return obj


def two(left: Any, right: Any) -> tuple[Any, Any]:
    """Before an operator of C reads both operands: its arguments."""
    kind = type(left)
    if kind is str or kind is bytes:
        if type(right) is not str:
            announce_read(_deep((right,)))
    elif kind is not int and (operations_of(kind) or kind in VIEWS or kind is tuple):
        announce_read(_deep((left, right)))
    elif operations_of(type(right)):
        announce_read(_deep((right,)))
    return left, right


def in_place(left: Any, right: Any, name: str) -> Any:
    """Before `left += right` and its like, which change a container: returns the right operand."""
    if name in operations_of(type(left)):
        if control.access is not None:
            announce_read((right,))
        announce(left, name, (right,))
    elif operations_of(type(right)):
        announce_read((right,))
    return right


def in_place_two(left: Any, right: Any, name: str) -> tuple[Any, Any]:
    """The same: the arguments of `operator.iadd` and its like."""
    return left, in_place(left, right, name)


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
        _count()
        access(variable.namespace, variable.read)
    return True


def read_cell(capture: Callable[[], Any], variable: Variable) -> bool:
    """Before a closure variable is read. `capture` is a closure over it and nothing else, for its cell."""
    access = control.access
    if access is not None:
        _count()
        access(capture.__closure__[0], variable.read)  # type: ignore[attr-defined]
    return True


def write_variables(value: Any, *variables: Any) -> Any:
    """Before globals and closure variables are set or deleted (each one followed by its `capture`, or None)."""
    if control.access is not None:
        found = []
        for variable, capture in zip(variables[::2], variables[1::2], strict=True):
            found.append((variable.namespace if capture is None else capture.__closure__[0], variable.write))
        announce_all(found)
        if control.note is not None:
            control.note(value)
    return value


# Iteration


def before_iter(obj: Any) -> Any:
    """Before `iter(obj)`."""
    if "__iter__" in operations_of(type(obj)):
        announce(obj, "__iter__", ())
    elif type(obj) in VIEWS:
        for container in underlying(obj):
            announce(container, "__iter__", ())
    return obj


def unpacked(iterator: Any) -> Any:
    """`iterator`, whose items are unpacked one by one."""
    return map(whole, iterator)


def stores(iterator: Any, *variables: Any) -> Any:
    """`iterator`, whose items are stored to shared variables one by one."""

    def stored(item: Any) -> Any:
        return write_variables(whole(item), *variables)

    return map(stored, iterator)


def _fresh(thing: object) -> int:
    return sys.getrefcount(thing)


# The references to an argument that nobody but its caller's stack holds.
_UNSHARED: Final = _fresh(iter([]))


def steps(iterator: Any) -> Any:
    """`iterator`, with an announcement before each step.

    A generator makes the announcements and hands the iterator to `next`, called by `map`: between the instrumented
    code and the iterator there is only C. An iterator that was made for this loop alone is nobody else's to step.
    """
    kind = type(iterator)
    shared = sys.getrefcount(iterator) > _UNSHARED
    if kind is types.GeneratorType:
        return map(next, _shared_steps(iterator, [])) if shared else iterator
    if kind not in ITERATORS:
        return iterator
    sources = list(underlying(iterator))
    if shared or (sources and (len(sources) > 1 or kind in ADAPTERS)):
        return map(next, _shared_steps(iterator if shared else None, sources, iterator))
    if not sources:
        return iterator
    source = sources[0]
    if kind is LIST_ITERATOR or kind is DEQUE_ITERATOR:
        return map(next, _steps_by_index(iterator, source))
    if kind in KEY_ITERATORS:
        return map(next, _steps_by_size(iterator, source))
    if type(source) is dict and operator.length_hint(iterator) == len(source):
        return map(next, _steps_by_key(iterator, source))
    return map(next, _shared_steps(None, sources, iterator))


def _steps_by_index(iterator: Any, source: Any) -> Iterator[Any]:
    index = len(source) - operator.length_hint(iterator)
    while True:
        announce(source, STEP, (index,))
        yield iterator
        index += 1


def _steps_by_size(iterator: Any, source: Any) -> Iterator[Any]:
    while True:
        announce(source, "__len__", ())
        yield iterator


def _steps_by_key(iterator: Any, source: dict[Any, Any]) -> Iterator[Any]:
    # A second iterator over the same dict is one step ahead and knows the key. A dict that changes stops both.
    ahead = dict.__iter__(source)
    while True:
        try:
            key = next(ahead)
        except (StopIteration, RuntimeError):
            announce(source, "__len__", ())
        else:
            announce(source, STEP, (key,))
        yield iterator


def _shared_steps(shared: Any, sources: list[Any], iterator: Any = None) -> Iterator[Any]:
    accesses: list[tuple[Any, Footprint]] = [(source, READ_WHOLE) for source in sources]
    if shared is not None:
        accesses.append((shared, WRITE_WHOLE))
        iterator = shared
    while True:
        announce_all(accesses)
        yield iterator


# Calls


def _read_all(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    announce_read(args)


def _read_deep(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    announce_read(_deep(args))


def _read_length(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if len(args) == 1:
        if type(args[0]) in VIEWS:
            for container in underlying(args[0]):
                announce(container, "__len__", ())
        else:
            announce_method(args[0], "__len__", ())


def _write_first(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if args and operations_of(type(args[0])):
        announce_all([(args[0], WRITE_WHOLE)])


def _named(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if len(args) >= 2 and type(args[1]) is str:
        read_attribute(args[0], attribute_name(args[1]))


def _named_for_write(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if len(args) >= 2 and type(args[1]) is str:
        write_attribute(args[0], attribute_name(args[1]))


def _step(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if args and (type(args[0]) in ITERATORS or type(args[0]) is types.GeneratorType):
        accesses: list[tuple[Any, Footprint]] = [(source, READ_WHOLE) for source in underlying(args[0])]
        announce_all([*accesses, (args[0], WRITE_WHOLE)])


def _operator(name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
    def announcement(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if args:
            announce_method(args[0], name, args[1:])

    return announcement


# By identity: a callable of the program's may have any `__hash__` and `__eq__`.
_CALLS: Final[dict[int, Callable[[tuple[Any, ...], dict[str, Any]], None]]] = {
    id(function): announcement
    for announcement, functions in (
        (
            _read_all,
            (
                sorted, list, tuple, set, frozenset, dict, sum, min, max, any, all, bytes, bytearray, functools.reduce,
                collections.deque, collections.OrderedDict, collections.Counter, collections.defaultdict, array.array,
                bisect.bisect, bisect.bisect_left, bisect.bisect_right, copy.copy, heapq.nlargest, heapq.nsmallest,
                random.choice, random.choices, random.sample,
            ),
        ),
        (_read_deep, (repr, str, ascii, format, print, copy.deepcopy, json.dumps, pickle.dumps, hash)),
        (_read_length, (len, bool, operator.length_hint, operator.truth, operator.not_)),
        (
            _write_first,
            (
                heapq.heappush, heapq.heappop, heapq.heapify, heapq.heapreplace, heapq.heappushpop,
                bisect.insort, bisect.insort_left, bisect.insort_right, random.shuffle,
            ),
        ),
        (_named, (getattr, hasattr)),
        (_named_for_write, (setattr, delattr)),
        (_step, (next,)),
        (_operator("__getitem__"), (operator.getitem,)),
        (_operator("__setitem__"), (operator.setitem,)),
        (_operator("__delitem__"), (operator.delitem,)),
        (_operator("__contains__"), (operator.contains,)),
    )
    for function in functions
}  # fmt: skip
# A bound method is made anew at each access, of whatever instance.
_CALLS.update({id(each.__func__): announcement for announcement, each in (
    (_write_first, random.shuffle), (_read_all, random.choice), (_read_all, random.choices), (_read_all, random.sample),
)})  # type: ignore[attr-defined]  # fmt: skip
# Of C, and known to read none of their arguments when they are called.
_READ_NOTHING: Final = frozenset(
    map(id, (isinstance, issubclass, id, callable, iter, enumerate, zip, map, filter, reversed, range, type, object))
)
# Store what they are given, and read nothing of it.
_STORING: Final = frozenset(
    {"append", "appendleft", "add", "insert", "setdefault", "__setitem__", "get", "pop", "__getitem__", "discard"}
    | {"remove", "__contains__", "__delitem__", "index", "count"}
)
_NOTED: Final = frozenset({"append", "appendleft", "add", "insert", "__setitem__"})
_METHODS: Final = (types.BuiltinMethodType, types.MethodWrapperType)
_DESCRIPTORS: Final = (types.MethodDescriptorType, types.WrapperDescriptorType)
_C_CALLABLES: Final = frozenset({*_METHODS, *_DESCRIPTORS, functools.partial})
_PYTHON_CALLABLES: Final = frozenset({types.FunctionType, types.MethodType})


def announce_method(obj: Any, name: str, args: tuple[Any, ...]) -> None:
    """Announce a call of a built-in method."""
    kind = type(obj)
    if name in operations_of(kind):
        others = [] if name in _STORING else [each for each in args if _is_read(each) and each is not obj]
        if not others:
            announce(obj, name, args)
        else:
            found: dict[int, tuple[Any, Footprint]] = {}
            for other in others:
                for container in underlying(other):
                    found[id(container)] = (container, READ_WHOLE)
            found[id(obj)] = (obj, footprint_of(obj, name, args))
            announce_all([each for each in found.values() if each[1]])
        if control.note is not None and name in _NOTED and args:
            control.note(args[-1])
    elif name in ("__next__", "send"):
        _step((obj,), {})
    elif name in ("__setattr__", "__delattr__"):
        _named_for_write((obj, *args), {})
    elif name == "__getattribute__":
        _named((obj, *args), {})
    elif name == "format":
        announce_read(_deep(args))
    elif name not in _STORING:
        announce_read((obj, *args))


def _is_read(thing: object) -> bool:
    kind = type(thing)
    return kind in VIEWS or kind in ITERATORS or bool(operations_of(kind))


def announce_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Announce what a call reads and writes, if the function is built in; any other announces by itself."""
    if control.access is None:
        return
    kind = type(function)
    if kind in _METHODS:
        known = _CALLS.get(id(function))
        if known is not None:
            known(args, kwargs)
        elif function.__self__ is not None and type(function.__self__) is not types.ModuleType:
            announce_method(function.__self__, function.__name__, args)
        elif id(function) not in _READ_NOTHING:
            announce_read((*args, *kwargs.values()))
    elif kind in _DESCRIPTORS:
        if args:
            announce_method(args[0], function.__name__, args[1:])
    elif kind is types.FunctionType or isinstance(function, type):
        known = _CALLS.get(id(function))
        if known is not None:
            known(args, kwargs)
    elif kind is types.MethodType:
        known = _CALLS.get(id(function)) or _CALLS.get(id(function.__func__))
        if known is not None:
            known(args, kwargs)
        elif function.__name__ in operations_of(type(function.__self__)):
            announce_method(function.__self__, function.__name__, args)
    elif isinstance(function, functools.partial):
        announce_call(function.func, (*function.args, *args), {**function.keywords, **kwargs})


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Before `function(*args, **kwargs)`, which may be a built-in: returns the call, to be made."""
    announce_call(function, args, kwargs)
    return functools.partial(function, *args, **kwargs)


class _Announcing:
    """A built-in function that a name led to which told nothing of it; announces its calls.

    The call is made from here. That shows in a traceback if the built-in raises, or if it calls back code that does.
    """

    __slots__ = ("function",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        announce_call(self.function, args, kwargs)
        return self.function(*args, **kwargs)


def called(function: Any) -> Any:
    """What to call in place of `function`: itself, but for built-ins that touch containers."""
    kind = type(function)
    if kind in _PYTHON_CALLABLES or kind is type:
        return function if id(function) not in _CALLS else _Announcing(function)
    if kind in _C_CALLABLES and _touches(function):
        return _Announcing(function)
    return function


def _touches(function: Any) -> bool:
    kind = type(function)
    if kind in _METHODS:
        of = function.__self__
        if of is None or type(of) is types.ModuleType:
            return id(function) in _CALLS
        return function.__name__ in operations_of(type(of)) or function.__name__ in ("__next__", "send", "join")
    if kind in _DESCRIPTORS:
        return function.__objclass__ in CONTAINERS
    return called(function.func) is not function.func


def noted(value: Any) -> Any:
    """After a read: tells its value, if the read was announced. Only in the code that runs with a `note`."""
    if control.note is not None and id(current()) in _to_note:
        _to_note.discard(id(current()))
        control.note(value)
    return value


def fresh() -> None:
    """Forget what was left of an earlier run."""
    _to_note.clear()
    forget_types()


# By the names that the rewritten code knows them by. Those of C carry an access out.
HELPERS: Final[dict[str, Any]] = {
    **{name: getattr(operator, name) for name in operator.__all__},
    "before_iter": before_iter,
    "call": call,
    "called": called,
    "contains_item": contains_item,
    "delete_item": delete_item,
    "in_place": in_place,
    "in_place_two": in_place_two,
    "iter": iter,
    "matched": matched,
    "noted": noted,
    "read_attribute": read_attribute,
    "read_cell": read_cell,
    "read_global": read_global,
    "read_item": read_item,
    "set_attribute": set_attribute,
    "set_item": set_item,
    "setattr": setattr,
    "shown": shown,
    "slice": slice,
    "steps": steps,
    "stores": stores,
    "truth": truth,
    "two": two,
    "unpacked": unpacked,
    "whole": whole,
    "write_attribute": write_attribute,
    "write_item": write_item,
    "write_variables": write_variables,
}
