"""How the program itself calls a thing: `lock`, `self.lock`, `forks[1]`, rather than `Lock#3`.

A lock has no name, but whoever uses it has reached it by one. So the frames of a step are searched for the thing: local
and closure variables, what these hold as attributes or items, then globals. Nothing of the program's is called for it,
only compared by identity, since a property, an `__eq__` or a `__repr__` might take a lock.

One thing goes by several names (a fork is the left one of one philosopher, the right one of another), and one name may
stand for several things. A report needs one name for each, so of all that were found the first is taken that no other
thing goes by; failing that, one with a number.

Looking is not quite without effect: before Python 3.13 a frame keeps what `f_locals` has shown, so locals live longer.
`looking=False` is for programs that notice.
"""

from __future__ import annotations

import itertools
import os
import weakref
from types import BuiltinFunctionType, CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from greenthreads.testing._kinds import is_a

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

__all__ = ["Aliases", "brief"]

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

# Of a container or an object with more parts, only so many are looked at.
_MOST_PARTS = 256
_MOST_NAMES = 8

_PLAIN = (int, float, complex, str, bytes, bool, type(None))
_PARTLESS = frozenset((*_PLAIN, range, set, frozenset, bytearray, FunctionType, BuiltinFunctionType, MethodType))


class Aliases:
    """The names of things, found as an execution goes by."""

    def __init__(self, looking: bool = True) -> None:
        self._looking = looking
        # By the identity of a thing, its number; and a weak reference, which tells it from a later one that has come to
        # stand at the same place in memory. A strong one would keep alive what the program lets die.
        self._numbers: dict[int, tuple[int, weakref.ref[Any] | None]] = {}
        self._types: list[str] = []
        self._found: list[dict[str, None]] = []
        # What belongs to another thing, as its lock does to a condition, goes by the name of that.
        self._owner: dict[int, int] = {}
        # Where names of a known thing were sought: what it is called there it is called there again.
        self._sought: set[tuple[int, int, int]] = set()

    def number(self, obj: object, frames: Iterable[FrameType], elsewhere: Iterable[FrameType] = ()) -> int:
        """A number for `obj`, the same each time. Its names are sought in `frames`; at first also `elsewhere`."""
        known = self._numbers.get(id(obj))
        if known is not None and (known[1] is None or known[1]() is obj):
            number = known[0]
            frames = list(itertools.islice(frames, 1))
            if frames and (number, id(frames[0].f_code), frames[0].f_lasti) in self._sought:
                return number
            self._sought.update((number, id(frame.f_code), frame.f_lasti) for frame in frames)
        else:
            number = self._add(obj)
            frames = itertools.chain(frames, elsewhere)
        if self._looking and len(self._found[number]) < _MOST_NAMES:
            for name, owner in _names_in(obj, frames):
                if owner is None:
                    self._found[number][name] = None
                elif number not in self._owner:
                    owner_number = self._owner[number] = self._number_of_owner(owner)
                    self._found[owner_number][name] = None
        return number

    def _add(self, obj: object) -> int:
        number = len(self._types)
        try:
            reference = weakref.ref(obj)
        except TypeError:
            reference = None
        self._numbers[id(obj)] = number, reference
        self._types.append(type(obj).__name__)
        self._found.append({})
        return number

    def _number_of_owner(self, owner: object) -> int:
        known = self._numbers.get(id(owner))
        if known is not None and (known[1] is None or known[1]() is owner):
            return known[0]
        return self._add(owner)

    def names(self) -> dict[int, str]:
        """The name of each thing, by its number. No two are the same, but for what belongs to another thing."""
        owners = [number for number in range(len(self._types)) if number not in self._owner or self._found[number]]
        meant: dict[str, int] = {}
        for number in owners:
            for name in self._found[number]:
                meant[name] = meant.get(name, 0) + 1
        counts: dict[str, int] = {}
        names: dict[int, str] = {}
        for number in owners:
            found = self._found[number]
            unique = next((name for name in found if meant[name] == 1), None)
            if unique is None:
                base = next(iter(found), self._types[number])
                counts[base] = counts.get(base, 0) + 1
                unique = f"{base}#{counts[base]}"
            names[number] = unique
        for number, owner in self._owner.items():
            names.setdefault(number, names.get(owner, self._types[number]))
        return names


# ---- The search ------------------------------------------------------------------------------------------------------


def _names_in(obj: object, frames: Iterable[FrameType]) -> Iterator[tuple[str, object | None]]:
    """Names of `obj` in these frames; with each the thing of ours that has it, where the name is of that."""
    global_names: dict[int, dict[str, Any]] = {}
    for frame in frames:
        if frame.f_locals is not frame.f_globals:
            yield from _names_among(obj, dict(frame.f_locals))
        global_names[id(frame.f_globals)] = frame.f_globals
    for namespace in global_names.values():
        yield from _names_among(obj, dict(namespace))


def _names_among(obj: object, variables: dict[str, Any]) -> Iterator[tuple[str, object | None]]:
    owner: tuple[str, object] | None = None
    for name, value in variables.items():
        if value is obj:
            yield name, None
    for name, value in variables.items():
        if name.startswith("__"):
            continue
        if owner is None and _is_ours(value) and any(part is obj for _suffix, part in _parts(value)):
            owner = name, value
        for suffix, part in _parts(value):
            if part is obj and not _is_ours(value):
                yield name + suffix, None
            elif owner is None and _is_ours(part) and any(inner is obj for _suffix, inner in _parts(part)):
                owner = name + suffix, part
    if owner is not None:
        yield owner


_ours: dict[type, bool] = {}


def _is_ours(value: object) -> bool:
    """Whether `value` is one of our primitives. They bear the names of the standard ones while these are replaced."""
    kind = type(value)
    if kind not in _ours:
        functions = [each for each in vars(kind).values() if type(each) is FunctionType]
        _ours[kind] = any(each.__code__.co_filename.startswith(_FOLDER) for each in functions)
    return _ours[kind]


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """What `value` holds, with how that is written. Calls nothing of the program's."""
    kind = type(value)
    if kind in _PARTLESS:
        return
    if kind is list or kind is tuple:
        for index, item in enumerate(value[:_MOST_PARTS]):
            yield f"[{index}]", item
    elif kind is dict:
        for key, item in itertools.islice(value.items(), _MOST_PARTS):
            if type(key) in _PLAIN:
                yield f"[{key!r}]", item
    elif kind is CellType:
        return
    else:
        for name, item in _attributes(value, kind):
            if name.startswith("_") and "__" in name[1:]:
                # A private name, as it stands in the source.
                name = name[name.index("__", 1) :]
            yield f".{name}", item


def _attributes(value: Any, kind: type) -> Iterator[tuple[str, object]]:
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = {}
    if type(own) is dict or is_a(value, type):
        yield from itertools.islice(dict(own).items(), _MOST_PARTS)
    if is_a(value, (type, ModuleType)):
        return
    for base in kind.__mro__:
        if base.__module__ in ("builtins", "typing"):
            continue
        for name, descriptor in list(vars(base).items()):
            if type(descriptor) is MemberDescriptorType:
                try:
                    yield name, descriptor.__get__(value)
                except AttributeError:
                    pass  # not set
            elif not callable(descriptor):
                yield name, descriptor  # an attribute of the class


# ---- Values ----------------------------------------------------------------------------------------------------------


def brief(value: object, room: int = 30) -> str:
    """A short text for a value. Calls nothing of the program's: a `__repr__` might take a lock, or fail."""
    text = _text_of(value, 2)
    return text if len(text) <= room else text[: room - 3] + "..."


def _text_of(value: Any, depth: int) -> str:
    kind = type(value)
    if kind is int:
        # Very large ones are refused, or take long.
        return repr(value) if value.bit_length() < 400 else f"<int of {value.bit_length()} bits>"
    if kind is str or kind is bytes:
        return repr(value[:80])
    if kind in _PLAIN:
        return repr(value)
    if kind in (list, tuple, dict, set, frozenset) and not value:
        return repr(value)
    if kind in (list, tuple) and depth:
        inside = ", ".join(_text_of(item, depth - 1) for item in value[:8])
        if len(value) > 8:
            inside += ", ..."
        return f"[{inside}]" if kind is list else f"({inside}{',' if len(value) == 1 else ''})"
    if kind is dict and depth:
        pairs = itertools.islice(value.items(), 8)
        inside = ", ".join(f"{_text_of(k, depth - 1)}: {_text_of(v, depth - 1)}" for k, v in pairs)
        return f"{{{inside}{', ...' if len(value) > 8 else ''}}}"
    if kind in (FunctionType, BuiltinFunctionType) or is_a(value, type):
        return str(getattr(value, "__name__", kind.__name__))
    return f"<{kind.__name__}>"
