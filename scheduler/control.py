"""The seam for a controlled scheduler.

Every public operation of a primitive is one step of its thread. Where somebody controls the threads, the operation
first asks for its turn:

    if control.active is not None:
        control.active.step("set", self)

In production nobody does, and the whole cost is this global check.

An operation that may have to wait says until when it can't go on. Its turn comes only when it can, so what follows
finds the lock open, the item there; and *any* thread that could go on may be next, not just the oldest waiter:

    if control.active is not None and not control.active.step("acquire", self, self._bar.locked, deadline):
        return False

That is the point of it: the primitives hand over first come, first served, but `threading` promises no such thing, and
a program that leans on the order is to be found out.

Shared memory has a seam of its own, `access`, `rounds` and `note`. Only instrumented code calls it, and there is none
outside of an exploration; see `greenthreads.testing.instrument`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from scheduler.outside import Outside

__all__ = [
    "AT_ONCE",
    "SIZE",
    "WHOLE",
    "Controller",
    "Footprint",
    "Part",
    "access",
    "accesses",
    "active",
    "announcing",
    "entering",
    "note",
    "rounds",
]


class Part(enum.Enum):
    """A part of an object that is no attribute, item or variable of it."""

    # Conflicts with every part of the same object, WHOLE included.
    WHOLE = "whole"
    # The length, the set of keys: what `len`, iteration and truth read, and an append or a new key writes.
    SIZE = "size"

    # Of C: parts are keys at each step.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return self.name


WHOLE: Final = Part.WHOLE
SIZE: Final = Part.SIZE

# What one access touches: (part, whether it writes). Two accesses conflict iff they are to the same object and have a
# pair of entries of which one writes, with equal parts or one of them WHOLE.
Footprint: TypeAlias = "tuple[tuple[Hashable, bool], ...]"

# The deadline of an operation that does not wait.
AT_ONCE: Final = float("-inf")


class Controller(Protocol):
    """Who decides which thread takes the next step."""

    outside: Outside

    def step(
        self,
        op: str,
        obj: object,
        blocked: Callable[[], object] | None = None,
        deadline: float | None = None,
        footprint: Footprint | None = None,
        /,
    ) -> bool:
        """Wait for the calling thread's turn to do `op` on `obj`, which comes only while `blocked()` is false.

        False if `deadline` (absolute; AT_ONCE for one that has passed) came first. At once True for a thread that is
        not under control. Raises what the thread is interrupted with while it is blocked.
        """

    def until_ready(self, fileno: Callable[[], int], events: int, deadline: float | None) -> bool:
        """Wait for the calling thread's turn, which comes when a descriptor is ready, or closed: `poller.block_for`.

        Only for a thread under control. False if `deadline` came first.
        """

    def controls(self) -> bool:
        """Whether the calling thread is under control."""

    def is_older(self, task: object) -> bool:
        """Whether `task` was started before what the calling thread does now, in every schedule."""


active: Controller | None = None

# Called before each access to memory that threads may share, with the object and the footprint. Parts are names of
# attributes and variables, keys and indices; the object of a global is its module's namespace, that of a closure
# variable its cell.
access: Callable[[object, Footprint], None] | None = None

# Called in place of it, when there is one, before an operation that touches several objects at once (`a == b`,
# `a.update(b)`), with (object, footprint) pairs: no other thread may come in between. Otherwise they are announced one
# after the other.
accesses: Callable[[tuple[tuple[object, Footprint], ...]], None] | None = None

# Called with a function that somebody else than code under test is about to call (`Thread(target=items.append)`);
# returns what to call in its place: something that announces what the function touches, if that is of C.
announcing: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None

# Called with generators that the calling thread steps now, once that is announced. Until it comes out of them again,
# who steps one is told that it runs: that has its end with the last of what the thread does inside.
entering: Callable[[Sequence[Any]], object] | None = None

# Called where a `while` loop begins (with True), and before each of its rounds, with a name that tells it from the
# others of its code. Called by the function that it is in, maybe through functions of the harness.
rounds: Callable[[str, bool], None] | None = None

# Called with the value that the access announced last has read, or is about to write. For explanations.
note: Callable[[object], None] | None = None
