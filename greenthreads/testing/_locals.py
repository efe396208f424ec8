"""Classes that were derived from the standard `threading.local` before the run: each thread under control has its own.

The standard one keeps a namespace for each kernel thread, and threads under control share one. An instance of the class
itself is replaced by one of ours (see `_standins`). One of a derived class can't be: its methods want an instance of
their class, and what holds it may be anywhere. So for the length of a session the class is given other methods, by
which attributes are looked up, set and deleted; they find, for a thread under control, a namespace of its own in a
`local` of ours, and for any other the standard one.

Not covered: a derived class that overrides these methods itself.
"""

from __future__ import annotations

import gc
import sys
import weakref
from _thread import _local as _CLocal
from functools import partial
from typing import TYPE_CHECKING, Any

from greenthreads import _local as ours
from greenthreads._local import local
from greenthreads.patch import module_root
from scheduler.continuation import current
from scheduler.controlled_task import ControlledTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.kernel import KernelTask

__all__ = ["Locals"]

_METHODS = ("__new__", "__getattribute__", "__setattr__", "__delattr__")


class _Shadow:
    """Stands behind one instance: its namespaces, and what `__init__` is called with in each thread."""

    __slots__ = ("arguments", "first", "is_loading", "namespaces", "ref")

    def __init__(self, obj: Any, forget: Callable[[Any], object]) -> None:
        self.namespaces = local()
        self.ref = weakref.ref(obj, forget)
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        # The namespace that the main thread begins each execution with; None if the execution has made the object.
        self.first: dict[str, Any] | None = None
        self.is_loading = False


class Locals:
    """The derived classes of one session: `install`, `reset` before each execution, `restore`."""

    def __init__(self, host: KernelTask) -> None:
        self._host = host
        self._shadows: dict[int, _Shadow] = {}
        self._undo: list[Callable[[], object]] = []

    def install(self, wanted: Callable[[object], bool]) -> None:
        """Give the classes of the modules that are `wanted`, and of the standard library, other methods."""
        methods = self._methods()
        for cls in _CLocal.__subclasses__():
            if wanted(cls.__module__) or module_root(cls.__module__) in sys.stdlib_module_names:
                for name in _METHODS:
                    if name not in vars(cls):
                        setattr(cls, name, methods[name])
                        self._undo.append(partial(delattr, cls, name))

    def reset(self) -> None:
        """Begin another execution."""
        for key, shadow in list(self._shadows.items()):
            if shadow.first is None:
                del self._shadows[key]
            else:
                shadow.namespaces = local()
                ours._adopt(shadow.namespaces, self._host, dict(shadow.first))

    def restore(self) -> None:
        """Give them their own back."""
        while self._undo:
            self._undo.pop()()
        self._shadows.clear()

    # ---- Namespaces --------------------------------------------------------------------------------------------------

    def _namespace(self, obj: Any) -> dict[str, Any] | None:
        """That of the calling thread, made at its first use; None for one that is not under control."""
        task = getattr(current(), "task", None)
        if type(task) is not ControlledTask:
            return None
        shadow = self._shadows.get(id(obj))
        if shadow is None:
            shadow = self._load(obj)
        if shadow.is_loading:
            return None
        namespaces = shadow.namespaces
        if not dict.__contains__(namespaces, task):
            is_new = not dict.__contains__(namespaces, ours._namespace_owner(task))
            ours._namespace(namespaces)
            cls: Any = type(obj)
            if is_new and cls.__init__ is not object.__init__:
                args, kwargs = shadow.arguments
                try:
                    cls.__init__(obj, *args, **kwargs)
                except BaseException:
                    dict.pop(namespaces, task, None)
                    raise
        namespace: dict[str, Any] = dict.__getitem__(namespaces, task)
        return namespace

    def _add(self, obj: Any) -> _Shadow:
        key = id(obj)
        shadow = self._shadows[key] = _Shadow(obj, lambda _ref: self._shadows.pop(key, None))
        return shadow

    def _load(self, obj: Any) -> _Shadow:
        """Take over an object that was there before the session, with what our kernel thread has in it."""
        shadow = self._add(obj)
        shadow.is_loading = True
        try:
            shadow.first = dict(_CLocal.__getattribute__(obj, "__dict__"))
        finally:
            shadow.is_loading = False
        ours._adopt(shadow.namespaces, self._host, dict(shadow.first))
        # The arguments of its making are kept where only the collector sees them, beside a dict of its own.
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        for each in gc.get_referents(obj):
            if type(each) is tuple and not args:
                args = each
            elif type(each) is dict and not kwargs and all(type(key) is str for key in each):
                kwargs = each
        shadow.arguments = args, kwargs
        return shadow

    # ---- The methods -------------------------------------------------------------------------------------------------

    def _methods(self) -> dict[str, Any]:
        def __new__(cls: Any, /, *args: Any, **kwargs: Any) -> Any:
            obj = _CLocal.__new__(cls, *args, **kwargs)
            task = getattr(current(), "task", None)
            if type(task) is ControlledTask:
                # `__init__` is about to run in this thread.
                shadow = self._add(obj)
                shadow.arguments = args, kwargs
                ours._namespace(shadow.namespaces)
            return obj

        def __getattribute__(obj: Any, name: str, /) -> Any:
            namespace = self._namespace(obj)
            if namespace is None:
                return _CLocal.__getattribute__(obj, name)
            if name == "__dict__":
                return namespace
            if name in namespace and _descriptor(obj, name) is None:
                return namespace[name]
            return object.__getattribute__(obj, name)

        def __setattr__(obj: Any, name: str, value: Any, /) -> None:
            namespace = self._namespace(obj)
            if namespace is None or name == "__dict__":
                _CLocal.__setattr__(obj, name, value)
                return
            descriptor = _descriptor(obj, name)
            if descriptor is None:
                namespace[name] = value
            else:
                descriptor.__set__(obj, value)

        def __delattr__(obj: Any, name: str, /) -> None:
            namespace = self._namespace(obj)
            if namespace is None or name == "__dict__":
                _CLocal.__delattr__(obj, name)
                return
            descriptor = _descriptor(obj, name)
            if descriptor is not None:
                descriptor.__delete__(obj)
            elif name in namespace:
                del namespace[name]
            else:
                raise AttributeError(f"{type(obj).__name__!r} object has no attribute {name!r}")

        return dict(zip(_METHODS, (__new__, __getattribute__, __setattr__, __delattr__), strict=True))


def _descriptor(obj: Any, name: str) -> Any:
    """What the class has under that name, if it decides on its own what setting it means: a property, a slot."""
    for cls in type(obj).__mro__:
        if name in vars(cls):
            found = vars(cls)[name]
            kind = type(found)
            return found if hasattr(kind, "__set__") or hasattr(kind, "__delete__") else None
    return None
