"""What the operations of the standard containers touch.

Containers written in C can't be rewritten, so what their methods do is written down here: for each type and method a
function from the call's arguments to a footprint. Where a method touches more than can be told cheaply, its footprint
is the whole container: dependence claimed in excess costs executions, dependence missed would make a claim of coverage
false.

The parts of a mapping or a set are its keys, those of a sequence its indices, and SIZE stands for the length or the set
of keys. A method that may change with the state of the container (a key that is there or not) is computed anew when
another thread ran in between; see `_announcing.announce`.
"""

from __future__ import annotations

import array
import collections
import gc
import itertools
import types

# A program under test may put others in their place, if only for a moment.
from builtins import isinstance, len, next, type  # noqa: UP029
from typing import TYPE_CHECKING, Any, Final, cast

from scheduler.control import SIZE, WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from scheduler.control import Footprint

    Operation = Callable[[Any, tuple[Any, ...]], Footprint]

__all__ = ["BASE_TABLES", "CONTAINERS", "METHOD_NAMES", "READ_WHOLE", "TABLES", "ByType", "underlying"]

NOTHING: Final = ()
READ_WHOLE: Final = ((WHOLE, False),)
WRITE_WHOLE: Final = ((WHOLE, True),)
READ_SIZE: Final = ((SIZE, False),)
_WRITES_SIZE: Final = (SIZE, True)

# More parts than this in one operation, and it is the whole.
_MANY: Final = 8

_PLAIN: Final = frozenset({int, str, bytes, float, complex, bool, types.NoneType, type, types.FunctionType})


def _hashable(key: object) -> bool:
    """Whether a key may stand for its part: hashing and comparing it runs no code of the program."""
    kind = type(key)
    if kind in _PLAIN:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_hashable, key))  # type: ignore[call-overload]
    return kind.__hash__ is object.__hash__ and kind.__eq__ is object.__eq__


# ---- Mappings and sets -----------------------------------------------------------------------------------------------


def _read_key(_container: Any, args: tuple[Any, ...]) -> Footprint:
    # What most keys are is asked first, without a call.
    if args and (type(args[0]) in _PLAIN or _hashable(args[0])):
        return ((args[0], False),)
    return READ_WHOLE


def _put(container: Any, args: tuple[Any, ...]) -> Footprint:
    if not args or not (type(args[0]) in _PLAIN or _hashable(args[0])):
        return WRITE_WHOLE
    key = args[0]
    kind = type(container)
    if key in container if kind is dict or kind is set else _contains(container, key):
        return ((key, True),)
    return ((key, True), _WRITES_SIZE)


def _take(container: Any, args: tuple[Any, ...]) -> Footprint:
    if not args or not _hashable(args[0]):
        return WRITE_WHOLE
    key = args[0]
    if _contains(container, key):
        return ((key, True), _WRITES_SIZE)
    return ((key, False),)


def _set_default(container: Any, args: tuple[Any, ...]) -> Footprint:
    if args and _hashable(args[0]) and _contains(container, args[0]):
        return ((args[0], False),)
    return _put(container, args)


def _read_default(container: Any, args: tuple[Any, ...]) -> Footprint:
    if container.default_factory is None:
        return _read_key(container, args)
    return _set_default(container, args)


def _contains(container: Any, key: object) -> bool:
    # The type's own test, not a subclass's: that may be the program's code.
    for base in (dict, set, frozenset):
        if isinstance(container, base):
            return base.__contains__(container, key)  # type: ignore[operator]
    return False


def _pop_item(container: Any, args: tuple[Any, ...]) -> Footprint:
    if type(container) is dict and container:
        key = next(reversed(container))
        if _hashable(key):
            return ((key, True), _WRITES_SIZE)
    return WRITE_WHOLE if len(container) else READ_SIZE


def _update(container: Any, args: tuple[Any, ...]) -> Footprint:
    found: dict[tuple[Hashable, bool], None] = {}
    for other in args:
        # Only what can be looked through without running the program's code, or using an iterator up.
        if type(other) not in (dict, set, frozenset, list, tuple) or len(other) > _MANY:
            return WRITE_WHOLE
        for each in other:
            if isinstance(container, dict) and type(other) is not dict:
                if type(each) is not tuple or len(each) != 2:
                    return WRITE_WHOLE
                each = each[0]
            found.update(dict.fromkeys(_put(container, (each,))))
    return tuple(found) if len(found) <= _MANY else WRITE_WHOLE


# ---- Sequences -------------------------------------------------------------------------------------------------------


def _index(write: bool) -> Operation:
    whole = WRITE_WHOLE if write else READ_WHOLE

    def operation(container: Any, args: tuple[Any, ...]) -> Footprint:
        index = args[0] if args else None
        if type(index) is not int:
            return whole
        size = len(container)
        if 0 <= index < size:
            return ((index, write),)
        if -size <= index < 0:
            return ((index + size, write), (SIZE, False))
        return READ_SIZE

    return operation


_read_index: Final = _index(False)
_write_index: Final = _index(True)


def _append(container: Any, _args: tuple[Any, ...]) -> Footprint:
    return ((len(container), True), _WRITES_SIZE)


def _append_bounded(container: Any, args: tuple[Any, ...]) -> Footprint:
    # A full deque drops its first, and every index moves.
    return _append(container, args) if container.maxlen is None else WRITE_WHOLE


def _extend(container: Any, args: tuple[Any, ...]) -> Footprint:
    other = args[0] if args else None
    if isinstance(other, (list, tuple, dict, set, frozenset, collections.deque, str, bytes, range)):
        more = len(other)
        if more == 0:
            return NOTHING
        if more <= _MANY and getattr(container, "maxlen", None) is None:
            start = len(container)
            return (*((start + i, True) for i in range(more)), (SIZE, True))
    return WRITE_WHOLE


def _pop(container: Any, args: tuple[Any, ...]) -> Footprint:
    size = len(container)
    if not size:
        return READ_SIZE
    if not args or (type(args[0]) is int and args[0] in (-1, size - 1)):
        return ((size - 1, True), _WRITES_SIZE)
    return WRITE_WHOLE


def _read(_container: Any, _args: tuple[Any, ...]) -> Footprint:
    return READ_WHOLE


def _write(_container: Any, _args: tuple[Any, ...]) -> Footprint:
    return WRITE_WHOLE


def _view(_container: Any, _args: tuple[Any, ...]) -> Footprint:
    return NOTHING


def _step_sequence(container: Any, args: tuple[Any, ...]) -> Footprint:
    return ((SIZE, False), (args[0], False)) if args[0] < len(container) else READ_SIZE


def _step_mapping(_container: Any, args: tuple[Any, ...]) -> Footprint:
    return ((SIZE, False), (args[0], False)) if args and _hashable(args[0]) else READ_WHOLE


def _size(_container: Any, _args: tuple[Any, ...]) -> Footprint:
    return READ_SIZE


def _all(operation: Operation, names: str) -> dict[str, Operation]:
    return dict.fromkeys(names.split(), operation)


# A step of an iteration, with the index or key that it comes to. No name that a method could have.
STEP: Final = "@step"

_COMPARISONS: Final = "__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __repr__ __str__ __format__"
_COMMON: Final = {
    **_all(_read, f"{_COMPARISONS} __reversed__ copy __copy__ __reduce__ __reduce_ex__"),
    "__len__": _size,
}
# A view reads nothing yet, an iterator whether there is anything; what is taken from it is announced then.
_LAZY: Final = {"__iter__": _size, **_all(_view, "keys values items")}

_LIST: Final[dict[str, Operation]] = {
    **_COMMON,
    **_LAZY,
    **_all(_read, "index count __add__ __mul__ __rmul__ __contains__ __radd__"),
    **_all(_write, "insert remove sort reverse clear __delitem__ __imul__"),
    "__getitem__": _read_index,
    "__setitem__": _write_index,
    "append": _append,
    "extend": _extend,
    "__iadd__": _extend,
    "pop": _pop,
    STEP: _step_sequence,
}
_DEQUE: Final[dict[str, Operation]] = {
    **_LIST,
    **_all(_write, "appendleft extendleft popleft rotate"),
    "append": _append_bounded,
    "pop": _pop,
}
_BYTES: Final[dict[str, Operation]] = {
    **_LIST,
    **_all(
        _read,
        "decode find rfind rindex startswith endswith hex split rsplit splitlines strip lstrip rstrip join replace"
        " translate upper lower title capitalize swapcase center ljust rjust zfill expandtabs partition rpartition"
        " isalnum isalpha isascii isdigit islower isspace istitle isupper removeprefix removesuffix __mod__"
        " tobytes tolist tounicode tofile buffer_info",
    ),
    **_all(_write, "frombytes fromfile fromlist fromunicode byteswap"),
}
_DICT: Final[dict[str, Operation]] = {
    **_COMMON,
    **_LAZY,
    **_all(_read, "__or__ __ror__"),
    **_all(_read_key, "get __getitem__ __contains__"),
    **_all(_take, "pop __delitem__"),
    **_all(_update, "update __ior__"),
    "__setitem__": _put,
    "setdefault": _set_default,
    "popitem": _pop_item,
    "clear": _write,
    STEP: _step_mapping,
}
_ORDERED: Final[dict[str, Operation]] = {**_DICT, **_all(_write, "move_to_end popitem")}
_COUNTER: Final[dict[str, Operation]] = {
    **_DICT,
    **_all(_read, "most_common total elements __add__ __sub__ __and__ __or__ __pos__ __neg__"),
    **_all(_write, "update subtract __iadd__ __isub__ __iand__ __ior__"),
}
_SET: Final[dict[str, Operation]] = {
    **_COMMON,
    **_LAZY,
    **_all(
        _read,
        "union intersection difference symmetric_difference issubset issuperset isdisjoint"
        " __or__ __and__ __sub__ __xor__ __ror__ __rand__ __rsub__ __rxor__",
    ),
    **_all(
        _write,
        "difference_update intersection_update symmetric_difference_update pop clear __iand__ __isub__ __ixor__",
    ),
    **_all(_update, "update __ior__"),
    **_all(_take, "remove discard"),
    "add": _put,
    "__contains__": _read_key,
}

# The mutable ones: what can't change needs no announcement.
CONTAINERS: Final[dict[type, dict[str, Operation]]] = {
    list: _LIST,
    dict: _DICT,
    set: _SET,
    collections.deque: _DEQUE,
    collections.OrderedDict: _ORDERED,
    collections.defaultdict: {**_DICT, "__getitem__": _read_default},
    collections.Counter: _COUNTER,
    bytearray: _BYTES,
    array.array: _BYTES,
}

# A call of one of these names may be to a container. Dunders too: `super().__setitem__(k, v)`.
METHOD_NAMES: Final = frozenset(name for table in CONTAINERS.values() for name in table) | {
    "__delattr__", "__getattribute__", "__next__", "__setattr__", "format", "fromkeys", "send", "shuffle", "writelines",
}  # fmt: skip


class _Tables(dict):  # type: ignore[type-arg]
    """type -> its operations, by name: those of the container that it derives from and that it does not override.

    An operation of the program's own is no entry: it announces what it does by itself.
    """

    def __missing__(self, kind: type) -> dict[str, Operation]:
        base = container_of(kind)
        table = {} if base is None else {
            name: operation
            for name, operation in CONTAINERS[base].items()
            if getattr(kind, name, None) is getattr(base, name, None)
            or getattr(kind, name, None) == getattr(base, name, None)
        }  # fmt: skip
        self[kind] = table
        return table


class _BaseTables(dict):  # type: ignore[type-arg]
    """type -> the operations of the container that it derives from: what its methods of C do, called past overrides."""

    def __missing__(self, kind: type) -> dict[str, Operation]:
        base = container_of(kind)
        self[kind] = table = {} if base is None else CONTAINERS[base]
        return table


class ByType(dict):  # type: ignore[type-arg]
    """type -> its operation of one name, or None."""

    def __init__(self, name: str, unless: str | None = None) -> None:
        super().__init__()
        self.name = name
        # None too for a type with a method of this name that is not the container's own.
        self.unless = unless
        _by_type.append(self)

    def __missing__(self, kind: type) -> Operation | None:
        operation = TABLES[kind].get(self.name)
        if self.unless is not None:
            own = getattr(container_of(kind), self.unless, None)
            if getattr(kind, self.unless, None) is not own:
                operation = None
        self[kind] = operation
        return operation


TABLES: Final[dict[type, dict[str, Operation]]] = _Tables(CONTAINERS)
BASE_TABLES: Final[dict[type, dict[str, Operation]]] = _BaseTables(CONTAINERS)
_by_type: Final[list[ByType]] = []


def forget_containers() -> None:
    """Forget the classes of programs that have run."""
    TABLES.clear()
    TABLES.update(CONTAINERS)
    BASE_TABLES.clear()
    BASE_TABLES.update(CONTAINERS)
    for each in _by_type:
        each.clear()


def container_of(kind: type) -> type | None:
    """The container of CONTAINERS that a type is, or derives from; None if it is no mutable container."""
    for base in type.__dict__["__mro__"].__get__(kind) or ():
        if base in CONTAINERS:
            return cast("type", base)
    return None


# ---- Views and iterators: what stands behind them --------------------------------------------------------------------

_VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_ORDERED_VIEWS: Final[tuple[type, ...]] = tuple(
    type(getattr(collections.OrderedDict(), name)()) for name in ("keys", "values", "items")
)
VIEWS: Final = frozenset({*_VIEWS, *_ORDERED_VIEWS, types.MappingProxyType, memoryview})
_some: Final[Any] = (
    [], {}, set(), collections.deque(), collections.OrderedDict(), bytearray(), array.array("i"),
    {}.keys(), {}.values(), {}.items(), collections.OrderedDict().values(), collections.OrderedDict().items(),
)  # fmt: skip
_over_containers: Final[frozenset[type]] = frozenset(
    type(iterate(container))
    for container in _some
    for iterate in (iter, reversed)
    if hasattr(container, "__reversed__" if iterate is reversed else "__iter__")
)
KEY_ITERATORS: Final[frozenset[type]] = frozenset({type(iter({})), type(iter(set()))})
LIST_ITERATOR: Final[type] = type(iter([]))
DEQUE_ITERATOR: Final[type] = type(iter(collections.deque()))
# Read from iterators, and may step more than one of them.
ADAPTERS: Final = frozenset(
    {enumerate, zip, map, filter, reversed, type(iter(())), type(iter("")), type(iter(range(0)))}
    | {kind for kind in vars(itertools).values() if isinstance(kind, type)}
)
# Each step of one of these changes it, and what it reads from stands behind it.
ITERATORS: Final = _over_containers | ADAPTERS


def generators(thing: object) -> Iterator[Any]:
    """The generators that a step of `thing` steps: itself, what it delegates to, and what an adapter stands on."""
    pending = [thing]
    for _depth in range(_MANY):
        below: list[object] = []
        for each in pending:
            kind = type(each)
            if kind is types.GeneratorType:
                yield each
                if each.gi_yieldfrom is not None:  # type: ignore[attr-defined]
                    below.append(each.gi_yieldfrom)  # type: ignore[attr-defined]
            elif kind in ADAPTERS:
                for other in gc.get_referents(each):
                    # As in `underlying`.
                    if type(other) is tuple:
                        below.extend(other if kind is zip or kind is map else ())
                    else:
                        below.append(other)
        if not below:
            return
        pending = below


def underlying(thing: object) -> Iterator[Any]:
    """The mutable containers that a view or a built-in iterator reads from, and a container itself."""
    pending = [thing]
    for _depth in range(_MANY):
        below: list[object] = []
        for each in pending:
            kind = type(each)
            if container_of(kind) is not None:
                yield each
            elif kind in ITERATORS or kind in VIEWS:
                for other in gc.get_referents(each):
                    if type(other) is tuple:
                        # Theirs are whole. That of a `zip_longest` has null pointers where an iterator was used up,
                        # and looking at one is a crash.
                        if kind is zip or kind is map:
                            below.extend(it for it in other if type(it) in ITERATORS)
                    else:
                        below.append(other)
        if not below:
            return
        pending = below
