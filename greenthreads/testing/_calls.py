"""Announces calls: of the containers' methods, and of the built-ins that read or change what they are given.

A function of the program's announces by itself what it does. What is written in C, or in Python that is not
instrumented, is known here by identity; a container given to anything else of C is taken to be read.
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
import types

# A program under test may put others in their place, if only for a moment.
from builtins import id, isinstance, len, type  # noqa: UP029
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._accesses import ACCESSES, read_attribute, sized, write_attribute
from greenthreads.testing._announcing import announce, announce_all, announce_read, deep, enter, tell
from greenthreads.testing._containers import (
    BASE_TABLES,
    CONTAINERS,
    ITERATORS,
    READ_WHOLE,
    TABLES,
    VIEWS,
    WRITE_WHOLE,
    generators,
    underlying,
)
from greenthreads.testing._iteration import ITERATION
from greenthreads.testing._names import attribute_name
from scheduler import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.control import Footprint

__all__ = ["HELPERS"]


def _read_all(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    announce_read(args)


def _read_deep(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    announce_read(deep(args))


def _read_length(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if len(args) == 1:
        sized(args[0])


def _write_first(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
    if args and TABLES[type(args[0])]:
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
        stepped = list(generators(args[0]))
        accesses += [(each, WRITE_WHOLE) for each in stepped if each is not args[0]]
        announce_all([*accesses, (args[0], WRITE_WHOLE)])
        enter(stepped)


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
_CALLS.update({id(random.Random.shuffle): _write_first})
_CALLS.update({id(each): _read_all for each in (random.Random.choice, random.Random.choices, random.Random.sample)})
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
_METHOD: Final = types.BuiltinMethodType
_METHODS: Final = (types.BuiltinMethodType, types.MethodWrapperType)
_DESCRIPTORS: Final = (types.MethodDescriptorType, types.WrapperDescriptorType)
_C_CALLABLES: Final = frozenset({*_METHODS, *_DESCRIPTORS, partial})
# What a bound method may be of, and has a name; a callable object of the program's may have none.
_NAMED: Final = frozenset({types.FunctionType, *_METHODS, *_DESCRIPTORS})
_PYTHON_CALLABLES: Final = frozenset({types.FunctionType, types.MethodType})


def announce_method(obj: Any, name: str, args: tuple[Any, ...]) -> None:
    """Announce a call of a built-in method."""
    kind = type(obj)
    operation = BASE_TABLES[kind].get(name)
    if operation is not None:
        others = [] if name in _STORING else [each for each in args if _is_read(each) and each is not obj]
        if not others:
            announce(obj, operation, args)
        else:
            found: dict[int, tuple[Any, Footprint]] = {}
            for other in others:
                for container in underlying(other):
                    found[id(container)] = (container, READ_WHOLE)
            found[id(obj)] = (obj, operation(obj, args))
            announce_all([each for each in found.values() if each[1]])
        if name in _NOTED and args:
            tell(args[-1])
    elif name in ("__next__", "send") or (kind is types.GeneratorType and name in ("close", "throw")):
        _step((obj,), {})
    elif name in ("__setattr__", "__delattr__"):
        _named_for_write((obj, *args), {})
    elif name == "__getattribute__":
        _named((obj, *args), {})
    elif name == "format":
        announce_read(deep(args))
    elif name not in _STORING:
        announce_read((obj, *args))


def _is_read(thing: object) -> bool:
    kind = type(thing)
    return kind in VIEWS or kind in ITERATORS or kind is types.GeneratorType or bool(TABLES[kind])


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
            if kwargs and function.__name__ == "update":
                args = (*args, kwargs)
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
        elif type(function.__func__) in _NAMED and function.__name__ in TABLES[type(function.__self__)]:
            announce_method(function.__self__, function.__name__, args)
    elif isinstance(function, partial):
        announce_call(function.func, (*function.args, *args), {**function.keywords, **kwargs})


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Before `function(*args, **kwargs)`, which may be a built-in: returns the call, to be made."""
    announce_call(function, args, kwargs)
    # What can't be called raises its TypeError when it is, at its own place.
    return partial(function, *args, **kwargs) if callable(function) else function


def method(name: str, function: Any, /, *args: Any) -> Any:
    """Before `function(*args)`, of a method named `name`: the method.

    The fast path: a container's method that reads nothing but the container.
    """
    if type(function) is _METHOD:
        of = function.__self__
        operation = BASE_TABLES[type(of)].get(name)
        if operation is not None and (not args or name in _STORING):
            announce(of, operation, args)
            if control.note is not None and name in _NOTED and args:
                tell(args[-1])
            return function
    announce_call(function, args, {})
    return function


def call_method(name: str, function: Any, /, *args: Any) -> Any:
    """The same: returns the call, to be made."""
    method(name, function, *args)
    return partial(function, *args) if callable(function) else function


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
        if type(of) is types.GeneratorType:
            return function.__name__ in ("__next__", "close", "send", "throw")
        return function.__name__ in BASE_TABLES[type(of)] or function.__name__ in ("__next__", "send", "join")
    if kind in _DESCRIPTORS:
        return function.__objclass__ in CONTAINERS
    return called(function.func) is not function.func


# All that instrumented code calls.
HELPERS: Final[dict[str, Any]] = {
    **ACCESSES,
    **ITERATION,
    **{each.__name__: each for each in (call, call_method, called, method)},
}
