"""`local`: attributes that each thread, of either kind, has for itself.

A `local` is a dict from tasks to namespaces, under the skin: that makes the read of an attribute

    self[current().task][name]

which is as little as it can be in Python, 2 to 3 times the standard one's C. Kept in a slot of an ordinary object, the
same dict costs a third more: with `__getattribute__` overridden, reading a slot is a call. Kept in the task, it would
keep the `local` alive, and with it whatever refers to itself through one.

What a dict can do is hidden: it has no length, no items, no methods, and equals only itself.

A thread's namespaces go when it ends (`Task.at_end`), a `local`'s when nobody has it any more. The main user thread
of a scheduler is the kernel thread that runs the scheduler, and shares its namespaces.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any, TypeVar

from scheduler.continuation import current
from scheduler.kernel import current_task
from scheduler.task import Task, UserTask

__all__ = ["local"]

_Self = TypeVar("_Self", bound="local")

_namespace_of = dict.__getitem__
_set = dict.__setitem__
_forget = dict.pop
# What a dict has and an object has not.
_OF_DICT = frozenset(dir(dict)) - frozenset(dir(object))


class local(dict):  # type: ignore[type-arg]
    """Attributes of their own for every thread, as `threading.local`.

    A subclass's `__init__` is called again, with the arguments of the first call, in each thread that uses the object.
    """

    __slots__ = ("__weakref__", "_local__arguments")

    def __new__(cls: type[_Self], /, *args: Any, **kwargs: Any) -> _Self:
        """Make one; its arguments are for a subclass's `__init__`."""
        if (args or kwargs) and not _has_init(cls):
            raise TypeError("Initialization arguments are not supported")
        self = dict.__new__(cls)
        object.__setattr__(self, "_local__arguments", (args, kwargs))
        # The caller is about to run __init__ in this thread.
        _adopt(self, _namespace_owner(current_task()), {})
        return self

    __init__ = object.__init__
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__  # type: ignore[assignment]
    __repr__ = object.__repr__
    __iter__ = None  # type: ignore[assignment]
    __len__ = None  # type: ignore[assignment]
    __contains__ = None  # type: ignore[assignment]
    __setitem__ = None  # type: ignore[assignment]
    __delitem__ = None  # type: ignore[assignment]
    __reversed__ = None  # type: ignore[assignment]
    __or__ = None  # type: ignore[assignment]
    __ror__ = None  # type: ignore[assignment]
    __ior__ = None  # type: ignore[assignment]

    def __missing__(self, key: object) -> Any:
        if isinstance(key, Task):
            raise KeyError(key)
        raise TypeError(f"{type(self).__name__!r} object is not subscriptable")

    def __bool__(self) -> bool:
        return True

    def __getattribute__(self, name: str) -> Any:
        try:
            return self[current().task][name]
        except (KeyError, AttributeError, RuntimeError):
            return _from_elsewhere(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name) and _is_for_descriptor(self, name):
            object.__setattr__(self, name, value)
            return
        try:
            namespace = _namespace_of(self, current().task)
        except (KeyError, AttributeError, RuntimeError):
            namespace = _namespace(self)
        namespace[name] = value

    def __delattr__(self, name: str) -> None:
        if hasattr(type(self), name) and _is_for_descriptor(self, name):
            object.__delattr__(self, name)
            return
        try:
            del _namespace(self)[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


def _from_elsewhere(self: local, name: str) -> Any:
    """The value of an attribute that the calling thread's namespace does not have, or not yet."""
    namespace = _namespace(self)
    if name in namespace:
        return namespace[name]
    if name == "__dict__":
        return namespace
    if name in _OF_DICT:
        for cls in type(self).__mro__:
            if cls is not dict and name in vars(cls):
                break
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
    return object.__getattribute__(self, name)


def _is_for_descriptor(self: local, name: str) -> bool:
    """Whether setting attribute `name` is the business of the class: a property, a slot."""
    if name == "__dict__":
        raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
    for cls in type(self).__mro__:
        if name in vars(cls):
            kind = type(vars(cls)[name])
            return hasattr(kind, "__set__") or hasattr(kind, "__delete__")
    return False  # an attribute of the metaclass


def _namespace(self: local) -> dict[str, Any]:
    """The calling thread's namespace, made, and filled by `__init__`, at the first use."""
    task = current_task()
    namespace: dict[str, Any]
    if dict.__contains__(self, task):
        namespace = _namespace_of(self, task)
        return namespace
    owner = _namespace_owner(task)
    if dict.__contains__(self, owner):
        namespace = _namespace_of(self, owner)
        _adopt(self, task, namespace)
        return namespace
    namespace = {}
    _adopt(self, owner, namespace)
    if owner is not task:
        _adopt(self, task, namespace)
    cls: Any = type(self)
    if _has_init(cls):
        args, kwargs = object.__getattribute__(self, "_local__arguments")
        try:
            cls.__init__(self, *args, **kwargs)
        except BaseException:
            _forget(self, owner, None)
            _forget(self, task, None)
            raise
    return namespace


def _has_init(cls: Any) -> bool:
    return cls.__init__ is not object.__init__


def _namespace_owner(task: Task) -> Task:
    if isinstance(task, UserTask) and task is task.scheduler.main:
        return task.host
    return task


def _adopt(self: local, task: Task, namespace: dict[str, Any]) -> None:
    """Give `task` its namespace, until it ends or `self` goes."""
    _set(self, task, namespace)
    at_end = task.at_end
    if at_end is None:
        at_end = task.at_end = {}
    key = id(self)
    # The one callback refers to the other's dict, not to the local.
    ref = weakref.ref(self, lambda _ref: at_end.pop(key, None))
    at_end[key] = partial(_leave, ref, task)


def _leave(ref: weakref.ref[local], task: Task) -> None:
    self = ref()
    if self is not None:
        _forget(self, task, None)
