"""`Once`: something done by whoever comes first, while the others wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from greenthreads._rlock import RLock
from scheduler import control, shield

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Once"]

T = TypeVar("T")


class Once:
    """Makes one call, however many threads of either kind ask for it, and gives all of them its result."""

    def __init__(self) -> None:
        # Reentrant, only to tell a call that asks for itself from one that another thread makes.
        self._lock = RLock()
        self._calling = False
        self._done = False
        self._result: Any = None

    @property
    def done(self) -> bool:
        """Whether the call was made and has returned."""
        return self._done

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """What `fn(*args, **kwargs)` returned when it was called first; it is called now if it was not before.

        Blocks the calling thread while another one makes the call. An exception goes to who made the call, and the
        next one to come, or to wait, tries again. RuntimeError if `fn` asks for its own result.
        """
        if control.active is not None:
            control.active.step("call", self)
        if not self._done:
            with self._lock:
                if not self._done:
                    self._make(fn, args, kwargs)
        return self._result  # type: ignore[no-any-return]

    def _make(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        if self._calling:
            raise RuntimeError("the call that is made once asks for its own result")
        self._calling = True
        try:
            self._result = fn(*args, **kwargs)
            self._done = True
        finally:
            self._calling = False

    shield.passages.add(_make.__code__)

    def __repr__(self) -> str:
        state = "done" if self._done else "open"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"
