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

Calls are the subject of `_calls`, `for` loops of `_iteration`. The one exception to the above is a built-in that comes
under a name which tells nothing, and raises: see `_calls._Announcing`.
"""

from __future__ import annotations

import operator

# A program under test may put others in their place, if only for a moment.
from builtins import id, len, type
from functools import partial
from typing import Any, Final

from greenthreads.testing._announcing import (
    SCALARS,
    announce,
    announce_all,
    announce_one,
    announce_read,
    announced,
    deep,
    noted,
    tell,
    to_note,
)
from greenthreads.testing._containers import TABLES, VIEWS, ByType, forget_containers, underlying
from greenthreads.testing._names import AttributeName, Variable, forget_types
from scheduler import control
from scheduler.continuation import current

__all__ = [
    "ACCESSES",
    "announce_sizes",
    "forget_classes",
    "read_attribute",
    "sized",
    "whole",
    "write_attribute",
    "write_variables",
]

_GETITEM: Final = ByType("__getitem__")
_SETITEM: Final = ByType("__setitem__")
_DELITEM: Final = ByType("__delitem__")
_CONTAINS: Final = ByType("__contains__")
_TRUTH: Final = ByType("__len__", unless="__bool__")
_LEN: Final = ByType("__len__")

# ---- Attributes ------------------------------------------------------------------------------------------------------


def read_attribute(obj: Any, name: AttributeName) -> Any:
    """Before `obj.name`."""
    how = name[type(obj)]
    if how is not None:
        access = control.access
        if access is not None:
            if how is True:
                announced[0] += 1
                if control.note is not None:
                    to_note.add(id(current()))
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
                announced[0] += 1
                access(obj, name.write)
            else:
                announce_all(how(obj))
    return obj


def set_attribute(value: Any, obj: Any, name: AttributeName) -> tuple[Any, str, Any]:
    """Before `obj.name = value`: the arguments of `setattr`."""
    write_attribute(obj, name)
    tell(value)
    return obj, name.name, value


# ---- Items -----------------------------------------------------------------------------------------------------------


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
    elif type(obj) not in SCALARS:
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
        announce_sizes(obj)
    return obj


def announce_sizes(view: Any) -> None:
    """Announce that the sizes of what stands behind `view` are read."""
    for each in underlying(view):
        announce(each, _LEN[type(each)], ())


def whole(obj: Any) -> Any:
    """Before all of `obj` is read at one place: unpacked, spread as arguments."""
    if type(obj) is not tuple:
        announce_read((obj,))
    return obj


def shown(obj: Any) -> Any:
    """Before `obj` is formatted or matched, with what is inside of it."""
    if type(obj) not in SCALARS:
        announce_read(deep((obj,)))
    return obj


def right(left: Any, operand: Any) -> Any:
    """Before an operator of C reads both operands: the right one."""
    if type(operand) not in SCALARS:
        announce_read(deep((left, operand)))
    elif type(left) not in SCALARS:
        announce_read(deep((left,)))
    return operand


def two(left: Any, operand: Any) -> tuple[Any, Any]:
    """The same: both."""
    return left, right(left, operand)


def in_place(left: Any, operand: Any, name: str) -> Any:
    """Before `left += operand` and its like, which change a container: the operand."""
    operation = TABLES[type(left)].get(name)
    if type(operand) not in SCALARS and operand is not left:
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


# ---- Variables -------------------------------------------------------------------------------------------------------


def read_global(variable: Variable) -> bool:
    """Before a global is read. True, so that it can stand as a condition."""
    access = control.access
    if access is not None:
        announced[0] += 1
        if control.note is not None:
            to_note.add(id(current()))
        access(variable.namespace, variable.read)
    return True


def read_cell(capture: Any, variable: Variable) -> bool:
    """Before a closure variable is read. `capture` is a closure over it and nothing else, for its cell."""
    access = control.access
    if access is not None:
        announce_one(access, capture.__closure__[0], variable.read)
    return True


def write_variables(value: Any, *variables: Any) -> Any:
    """Before globals and closure variables are set or deleted (each one followed by its `capture`, or None)."""
    access = control.access
    if access is not None:
        if len(variables) == 2:
            variable, capture = variables
            announced[0] += 1
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


# ---- Loops -----------------------------------------------------------------------------------------------------------


def loop_begins(loop: str) -> None:
    """Before a `while` loop."""
    if control.rounds is not None:
        control.rounds(loop, True)


def next_round(loop: str) -> bool:
    """Before a round of it. True, so that it can stand in a condition."""
    if control.rounds is not None:
        control.rounds(loop, False)
    return True


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
            container, contains_item, delete_item, in_place, in_place_two, loop_begins, matched, next_round, noted,
            read_attribute, read_cell, read_global, read_item, read_key, right, set_attribute, set_item, shown, sized,
            truth, two, whole, write_attribute, write_item, write_key, write_variables,
        )
    },
}  # fmt: skip
