"""Which operations depend on one another: those whose order could make a difference.

An operation *touches* things: an object, or a part of one, in one of three ways. Two operations are dependent if they
touch the same thing and their ways do not go together:

             LOOK   CHANGE   JOIN_IN
    LOOK      yes     no       no
    CHANGE    no      no       no
    JOIN_IN   no      no       yes      (such as two threads that end: whoever counts threads sees a difference,
                                         they themselves do not)

This is sound as long as nothing is left out: to touch too much costs executions, to touch too little hides schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scheduler.control import WHOLE, Part

if TYPE_CHECKING:
    from scheduler.strategy import Choice

__all__ = ["CHANGE", "JOIN_IN", "LOOK", "PLAIN", "Touch", "conflict", "go_together", "may_be_address", "touches"]

LOOK: Final = 0
CHANGE: Final = 1
JOIN_IN: Final = 2

# The object, the part of it (None: it has no parts), and the way.
Touch = tuple[Any, Any, int]


class _Thing:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


# What threads are interrupted with. Whether an interrupt ends a wait, or the next one, is a matter of all that may end
# the wait in another way.
INTERRUPTS: Final = _Thing("the interrupts")
# What `enumerate` looks at.
THREADS: Final = _Thing("the threads that are alive")
# That the execution goes on: when its last thread ends that is no daemon, daemons take no further step.
EXECUTION: Final = _Thing("the execution")
# Virtual time, where it may be moved on by a timed wait that ends early.
CLOCK: Final = _Thing("the clock")

# Operations by which a thread looks at an object, or goes on after it has been changed by another.
_LOOKS = frozenset(("broken", "is_alive", "is_set", "join", "locked", "n_waiting", "poll", "qsize", "resume"))
# Operations that are nobody else's business.
_PRIVATE = frozenset(("acquire_again", "begin", "call", "release_one", "sleep", "yield"))
# The part of a thread that its end leaves as it is: to ask whether it was started is of no concern to its end.
_STARTED: Final = "started"
# Keys that can be compared without asking code of the program.
PLAIN: Final = frozenset((str, int, bytes, float, bool, type(None), Part))

# Small objects are in memory that is mapped, and on a 64-bit system that begins above this.
_ADDRESSES: Final = 1 << 32


def touches(choice: Choice) -> list[Touch]:
    """What the pending operation of a thread touches."""
    op, obj, footprint = choice.op, choice.obj, choice.footprint
    if footprint is None:
        found = _touches(op, obj)
    else:
        found = [
            (each, comparable(part), CHANGE if writes else LOOK)
            for each, parts in ((obj, footprint), *choice.beside)
            for part, writes in parts
        ]
    found += [(each, WHOLE, CHANGE) for each in choice.within]
    if choice.daemon:
        found.append((EXECUTION, None, LOOK))
    elif op == "end" and choice.is_last:
        found.append((EXECUTION, None, CHANGE))
    return found


def _touches(op: str, obj: Any) -> list[Touch]:
    if op in _PRIVATE:
        return []
    if obj is None:
        way = _WITHOUT_OBJECT.get(op)
        return [] if way is None else [way]
    if op == "interrupt":
        return [(INTERRUPTS, None, CHANGE)]
    if op in _LOOKS or (op == "wait" and hasattr(obj, "is_set")):
        return [(obj, None, LOOK)]
    if op == "is_started":
        return [(obj, _STARTED, LOOK)]
    if op == "start":
        return [(obj, None, CHANGE), (obj, _STARTED, CHANGE), (THREADS, None, JOIN_IN)]
    if op == "end":
        return [(obj, None, CHANGE), (THREADS, None, JOIN_IN)]
    if op == "timeout":
        return [(CLOCK, None, CHANGE), *_with_its_lock(obj, op)]
    if op == "notify":
        lock = getattr(obj, "opened_by_waiting", None)
        if not getattr(lock, "only_the_owner_releases", False):
            # Whether it is held is asked of a plain lock, which can't say by whom.
            return [(obj, None, CHANGE), (lock, None, LOOK)]
    return _with_its_lock(obj, op)


# What operations touch that are on no object.
_WITHOUT_OBJECT: Final[dict[str, Touch]] = {
    "clock": (CLOCK, None, LOOK),
    "enumerate": (THREADS, None, LOOK),
    "timeout": (CLOCK, None, CHANGE),
}


def _with_its_lock(obj: Any, op: str) -> list[Touch]:
    # To wait on a condition opens its lock, and to wake up takes it.
    lock = getattr(obj, "opened_by_waiting", None) if op in ("wait", "wake", "timeout", "expire") else None
    return [(obj, None, CHANGE)] if lock is None else [(obj, None, CHANGE), (lock, None, CHANGE)]


def comparable(part: Any) -> Any:
    """`part`, or WHOLE in place of a key that only code of the program could compare."""
    if type(part) in PLAIN or (type(part) is tuple and all(type(each) in PLAIN for each in part)):
        return part
    return WHOLE


def may_be_address(part: Any) -> bool:
    """Whether a key is, or has in it, a number as large as those that `id` returns."""
    if type(part) is tuple:
        return any(may_be_address(each) for each in part)
    return type(part) is int and part >= _ADDRESSES


def go_together(one: int, other: int) -> bool:
    """Whether two ways to touch the same thing can change places."""
    return one == other != CHANGE


def conflict(one: Choice, other: Choice) -> bool:
    """Whether two pending operations, of different threads, are dependent."""
    return any(
        mine is theirs and not go_together(way, their_way) and same_part(part, their_part)
        for mine, part, way in touches(one)
        for theirs, their_part, their_way in touches(other)
    )


def same_part(one: Any, other: Any) -> bool:
    """Whether two parts of an object overlap."""
    return bool(one is WHOLE or other is WHOLE or one == other)
