"""Functions of a standard module, with names of ours where they look for its own.

`socket.create_connection` makes a `socket` that it finds in its module's globals. Bound to other globals the same
function makes one of ours, on every Python as that Python does it, and no line of it is written here again.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

__all__ = ["rebound"]


def rebound(function: Any, namespace: dict[str, Any]) -> Any:
    """The same function, with `namespace` as its globals."""
    copy = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__doc__ = function.__doc__
    copy.__qualname__ = function.__qualname__
    copy.__annotations__ = dict(function.__annotations__)
    return copy
