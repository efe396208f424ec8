"""Iterators that threads share: what `threading` has for them since Python 3.15, here on every Python.

An iterator written in Python can be advanced by one thread at a time; a second one gets "ValueError: generator already
executing", or spoils its state. The lock is this library's, so a user thread that finds the iterator in use parks.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenthreads._lock import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["concurrent_tee", "serialize_iterator", "synchronized_iterator"]

T = TypeVar("T")


class serialize_iterator(Generic[T]):
    """An iterator over `iterable` that threads of both kinds may share: one at a time advances it, the others wait.

    Each item goes to one of them. `send`, `throw` and `close` are a generator's, one at a time as well; AttributeError
    where the iterator has no such method. The lock is not reentrant: an iterator that advances its own wrapper waits
    for ever.
    """

    __slots__ = ("_iterator", "_lock")

    def __init__(self, iterable: Iterable[T]) -> None:
        self._iterator: Any = iter(iterable)
        self._lock = Lock()

    def __iter__(self) -> serialize_iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._iterator)  # type: ignore[no-any-return]

    def send(self, value: Any, /) -> T:
        """Send `value` into the generator and return what it yields next."""
        with self._lock:
            return self._iterator.send(value)  # type: ignore[no-any-return]

    def throw(self, *args: Any) -> T:
        """Raise an exception in the generator, and return what it yields next."""
        with self._lock:
            return self._iterator.throw(*args)  # type: ignore[no-any-return]

    def close(self) -> Any:
        """End the generator."""
        with self._lock:
            return self._iterator.close()


def synchronized_iterator(func: Callable[..., Iterable[T]]) -> Callable[..., serialize_iterator[T]]:
    """Decorate a generator function, or any that returns an iterable, so that threads may share what it returns."""

    @wraps(func)
    def inner(*args: Any, **kwargs: Any) -> serialize_iterator[T]:
        return serialize_iterator(func(*args, **kwargs))

    return inner


def concurrent_tee(iterable: Iterable[T], n: int = 2) -> tuple[Iterator[T], ...]:
    """`n` independent iterators over the items of `iterable`, each of which a thread of its own may advance.

    `iterable` is advanced once an item, by whoever comes first, while the others wait. One of the iterators is for one
    thread at a time: give it to `serialize_iterator` to share it. ValueError if `n` is negative.
    """
    if n < 0:
        raise ValueError("n must be a non-negative integer")
    if n == 0:
        return ()
    first = _Branch(iterable)
    return (first, *(_Branch(first) for _ in range(n - 1)))


class _Link(Generic[T]):
    """A place in the stream: its item and the place after it. Empty, with nothing after it, until somebody gets there.

    Only the branches refer to links, so what all of them have passed is freed.
    """

    __slots__ = ("following", "item")

    item: T

    def __init__(self) -> None:
        self.following: _Link[T] | None = None


class _Branch(Generic[T]):
    """One of the iterators that `concurrent_tee` returns."""

    __slots__ = ("_iterator", "_link", "_lock")

    _iterator: Iterator[T]
    _link: _Link[T]
    _lock: Lock

    def __init__(self, iterable: Iterable[T]) -> None:
        if isinstance(iterable, _Branch):
            self._iterator, self._link, self._lock = iterable._iterator, iterable._link, iterable._lock
        else:
            self._iterator, self._link, self._lock = iter(iterable), _Link(), Lock()

    def __iter__(self) -> _Branch[T]:
        return self

    def __next__(self) -> T:
        link = self._link
        if link.following is None:
            with self._lock:
                # Another branch may have come first. The item is there before `following` says so.
                if link.following is None:
                    link.item = next(self._iterator)
                    link.following = _Link()
        self._link = link.following
        return link.item
