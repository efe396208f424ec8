"""What an object of the program is, without a word from it.

`isinstance` asks an object for its `__class__` where its type does not fit, and that may be code of the program: a lazy
proxy makes what it stands for then. An exploration must not do what the program has not done.
"""

from __future__ import annotations

from typing import TypeGuard, TypeVar

__all__ = ["is_a"]

T = TypeVar("T")


def is_a(obj: object, kind: type[T] | tuple[type[T], ...]) -> TypeGuard[T]:
    """Whether `obj` is an instance of `kind`, by its type alone."""
    return issubclass(type(obj), kind)
