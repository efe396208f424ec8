"""What is of use in one process only: a copy of a lock in another one would keep nobody out there, and say nothing."""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

__all__ = ["Unpicklable"]


class Unpicklable:
    """Refuses to be pickled or copied, in the words of the standard object that it stands for."""

    __slots__ = ()

    # Makes one that refuses. Most of threading's primitives refuse for the lock that is in them.
    _like: Callable[[], object] = staticmethod(allocate_lock)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Raises TypeError."""
        return self._like().__reduce_ex__(protocol)
