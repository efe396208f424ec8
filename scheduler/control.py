"""The seam for a controlled scheduler.

Every public operation of a primitive is one step. It calls `announce` first, with the operation's name and the object,
when there is one to call. In production there is none, and the whole cost is this global check:

    if control.announce is not None:
        control.announce("acquire", self)

Shared memory has a seam of its own, `access` and `note`. Only instrumented code calls it, and there is none outside of
an exploration; see `greenthreads.testing.instrument`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SIZE", "WHOLE", "Footprint", "Part", "access", "announce", "note"]


class Part(enum.Enum):
    """A part of an object that is no attribute, item or variable of it."""

    # Conflicts with every part of the same object, WHOLE included.
    WHOLE = "whole"
    # The length, the set of keys: what a membership test of an absent key, `len` and iteration read.
    SIZE = "size"

    def __repr__(self) -> str:
        return self.name


WHOLE: Final = Part.WHOLE
SIZE: Final = Part.SIZE

# What one access touches: (part, whether it writes). Two accesses conflict iff they are to the same object and have a
# pair of entries of which one writes, with equal parts or one of them WHOLE.
Footprint: TypeAlias = "tuple[tuple[Hashable, bool], ...]"

announce: Callable[[str, object], None] | None = None

# Called before each access to memory that threads may share, with the object and the footprint. Parts are names of
# attributes and variables, keys and indices; the object of a global is its module's namespace, that of a closure
# variable its cell.
access: Callable[[object, Footprint], None] | None = None

# Called with the value that the access announced last has read, or is about to write. For explanations.
note: Callable[[object], None] | None = None
