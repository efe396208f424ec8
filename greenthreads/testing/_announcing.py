"""Announcing an access to memory: to the hook of control.py, with what it touches at the moment when it is made.

The hook may let other threads run before it returns, and these may change what the access touches. So who announces an
operation whose footprint depends on the state of a container looks again afterwards, see `announce`.

**Notes.** Where somebody listens (`control.note`), the value that an access has read, or is about to write, is told as
well: `noted` and `tell`.
"""

from __future__ import annotations

import collections
import inspect
import types

# A program under test may put others in their place, if only for a moment.
from builtins import id, isinstance, len, type  # noqa: UP029
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._containers import (
    ADAPTERS,
    ITERATORS,
    READ_WHOLE,
    TABLES,
    VIEWS,
    WRITE_WHOLE,
    generators,
    underlying,
)
from scheduler import control
from scheduler.continuation import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from greenthreads.testing._containers import Operation
    from scheduler.control import Footprint

__all__ = [
    "SCALARS",
    "announce",
    "announce_all",
    "announce_one",
    "announce_read",
    "announced",
    "deep",
    "enter",
    "forget_notes",
    "is_fresh_expression",
    "noted",
    "tell",
    "to_note",
]

# Neither containers nor anything that contains one.
SCALARS: Final = frozenset({int, float, bool, str, bytes, types.NoneType})

# Counts the announcements of all threads: unchanged, nobody else touched memory since. In a list, for the fast paths of
# other modules to count as well.
announced: Final = [0]

# Threads whose last announcement was of a read whose value has not been told yet. Kept only while there is a `note`.
to_note: Final[set[int]] = set()


def announce_one(access: Callable[[Any, Footprint], None], obj: Any, footprint: Footprint) -> None:
    """Announce one access; fast paths have this written out."""
    announced[0] += 1
    if control.note is not None:
        to_note.add(id(current()))
    access(obj, footprint)


def announce(container: Any, operation: Operation, args: tuple[Any, ...]) -> None:
    """Announce an operation of a container, whose footprint may depend on the container's state.

    The hook may let other threads run. If one of them has touched memory meanwhile, the footprint is computed anew,
    and announced anew if it is another: what is announced last is what the operation then does.
    """
    access = control.access
    if access is None:
        return
    footprint = operation(container, args)
    while footprint:
        announced[0] += 1
        mine = announced[0]
        if control.note is not None:
            to_note.add(id(current()))
        access(container, footprint)
        if mine == announced[0]:
            return
        now = operation(container, args)
        if now == footprint:
            return
        footprint = now


def announce_all(accesses: list[tuple[Any, Footprint]]) -> None:
    """Announce what one operation touches in several objects."""
    if len(accesses) > 1 and control.accesses is not None:
        announced[0] += 1
        if control.note is not None:
            to_note.add(id(current()))
        control.accesses(tuple(accesses))
        return
    for container, footprint in accesses:
        access = control.access
        if access is not None:
            announce_one(access, container, footprint)


def announce_read(things: Iterable[object]) -> None:
    """Announce that an operation of C reads all of each of `things` that is a container, or reads from one."""
    if control.access is None:
        return
    found: dict[int, tuple[Any, Footprint]] = {}
    for thing in things:
        kind = type(thing)
        if kind in SCALARS:
            continue
        if kind in ITERATORS:
            found[id(thing)] = (thing, WRITE_WHOLE)
            if kind in ADAPTERS:
                found.update((id(each), (each, WRITE_WHOLE)) for each in generators(thing))
        elif kind is types.GeneratorType:
            if not is_fresh_expression(thing):
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


def is_fresh_expression(thing: Any) -> bool:
    """Whether it is a generator expression that nobody has stepped: nearly always one that is made for this use."""
    return thing.__name__ == "<genexpr>" and inspect.getgeneratorstate(thing) == inspect.GEN_CREATED


def deep(things: Iterable[object], limit: int = 64) -> Iterator[object]:
    """The containers that comparing or printing things comes by, those inside of others included."""
    pending = list(things)
    seen: set[int] = set()
    while pending and len(seen) < limit:
        each = pending.pop(0)
        kind = type(each)
        if kind in SCALARS or id(each) in seen:
            continue
        if kind is not tuple and kind is not frozenset and kind not in VIEWS and not TABLES[kind]:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, dict):
            pending.extend(dict.values(each))
        elif isinstance(each, (list, tuple, collections.deque)) and len(each) < limit:
            pending.extend(each)


def tell(value: Any) -> None:
    """Tell the value that is about to be written."""
    if control.note is not None:
        to_note.discard(id(current()))
        control.note(value)


def noted(value: Any) -> Any:
    """After a read: tells its value, if the read was announced. Only in the code that runs with a `note`."""
    if control.note is not None and id(current()) in to_note:
        to_note.discard(id(current()))
        control.note(value)
    return value


def forget_notes() -> None:
    """Forget what was left of an earlier run."""
    to_note.clear()
