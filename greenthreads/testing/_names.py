"""What stands behind a name in instrumented code: which object an attribute access touches, and a variable's footprint.

One `AttributeName` serves all accesses by that name; it knows for each type of object what such an access is:

- a value of the instance's own: the object;
- a class variable seen through the instance: the instance, which does not have it, and the class, which does;
- a method, a property, a descriptor of the program's: nothing. The code that runs announces what it touches;
- a module's attribute: the module's namespace, as for globals;
- an attribute that is each thread's own (`threading.local`): nothing.

Methods, classes and modules are taken for constant: a thread that replaces a method of a class while another calls it
is not seen. Replacing one on an instance is.
"""

from __future__ import annotations

import enum
import functools
import threading
import types
from typing import TYPE_CHECKING, Any, Final

from greenthreads._local import local

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.control import Footprint

    # None: nothing. True: the object itself. Otherwise a function of the object.
    How = Callable[[Any], "list[tuple[Any, Footprint]]"] | bool | None

__all__ = ["AttributeName", "Variable", "attribute_name", "forget_types"]

_LOCALS: Final = (threading.local, local)
_MISSING: Final = object()

# Read through a class or a module, a value of one of these is taken for constant.
_CONSTANT: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.ModuleType,
    staticmethod,
    classmethod,
    property,
    type,
)


class AttributeName(dict):  # type: ignore[type-arg]
    """A name of attributes, and for each type of object, filled in as they come, what reading it touches.

    Equal to itself alone: it stands among the constants of code objects, which are hashed.
    """

    __slots__ = ("name", "read", "write")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.read: Footprint = ((name, False),)
        self.write: Footprint = ((name, True),)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __missing__(self, kind: type) -> How:
        how = self._how(kind)
        self[kind] = how
        return how

    def _how(self, kind: type) -> How:
        if issubclass(kind, _LOCALS):
            return None
        if issubclass(kind, type):
            return None if issubclass(kind, enum.EnumMeta) else self._of_class
        if issubclass(kind, types.ModuleType):
            return self._of_module
        owner, value = _find(kind, self.name)
        if owner is None:
            return _has_own(kind) or None
        descriptor = type(value)
        if descriptor is types.MemberDescriptorType:
            return bool(owner.__flags__ & _HEAP_TYPE) or None
        if descriptor is functools.cached_property:
            return self._cached
        if hasattr(descriptor, "__set__") or hasattr(descriptor, "__delete__"):
            return None
        if hasattr(descriptor, "__get__"):
            return None
        return functools.partial(self._class_variable, owner)

    def _of_class(self, cls: Any) -> list[tuple[Any, Footprint]]:
        owner, value = _find(cls, self.name)
        if owner is None or isinstance(value, _CONSTANT) or not owner.__flags__ & _HEAP_TYPE:
            return []
        return [(owner, self.read)]

    def _of_module(self, module: Any) -> list[tuple[Any, Footprint]]:
        namespace = types.ModuleType.__getattribute__(module, "__dict__")
        if isinstance(namespace.get(self.name, type), _CONSTANT):
            return []
        return [(namespace, self.read)]

    def _cached(self, obj: Any) -> list[tuple[Any, Footprint]]:
        return [(obj, self.read if self.name in _own(obj) else self.write)]

    def _class_variable(self, owner: type, obj: Any) -> list[tuple[Any, Footprint]]:
        if self.name in _own(obj) or not owner.__flags__ & _HEAP_TYPE:
            return [(obj, self.read)]
        return [(obj, self.read), (owner, self.read)]

    def written(self, obj: Any) -> Any:
        """The object that setting or deleting the attribute writes to; None if that is for other code to say."""
        kind = type(obj)
        if issubclass(kind, _LOCALS):
            return None
        if issubclass(kind, types.ModuleType):
            return types.ModuleType.__getattribute__(obj, "__dict__")
        if issubclass(kind, type):
            # What instances see by this name may be something else from now on.
            self.clear()
            return obj
        owner, value = _find(kind, self.name)
        if owner is None:
            return obj
        descriptor = type(value)
        if descriptor is not types.MemberDescriptorType and hasattr(descriptor, "__set__"):
            return None if owner.__flags__ & _HEAP_TYPE else obj
        if self[kind] is None and descriptor is not types.MemberDescriptorType:
            # A method is replaced on an instance: from now on the name is read on instances.
            self[kind] = True
        return obj


class Variable:
    """A global or closure variable, as instrumented code names it."""

    __slots__ = ("name", "namespace", "read", "write")

    def __init__(self, name: str, namespace: dict[str, Any] | None) -> None:
        self.name = name
        # Of a global: the namespace of its module.
        self.namespace = namespace
        self.read: Footprint = ((name, False),)
        self.write: Footprint = ((name, True),)


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_names: dict[str, AttributeName] = {}


def attribute_name(name: str) -> AttributeName:
    """The one AttributeName of a name."""
    found = _names.get(name)
    if found is None:
        found = _names[name] = AttributeName(name)
    return found


def forget_types() -> None:
    """Forget what is known of types: classes may have changed, or gone, since."""
    for name in _names.values():
        name.clear()


def _find(kind: type, name: str) -> tuple[type | None, Any]:
    for base in type.__dict__["__mro__"].__get__(kind):
        value = base.__dict__.get(name, _MISSING)
        if value is not _MISSING:
            return base, value
    return None, None


def _has_own(kind: type) -> bool:
    return kind.__dictoffset__ != 0 or hasattr(kind, "__getattr__") or bool(kind.__flags__ & _MANAGED_DICT)


_MANAGED_DICT: Final = 1 << 4  # Py_TPFLAGS_MANAGED_DICT, 3.11 and newer


def _own(obj: Any) -> dict[str, Any]:
    try:
        return object.__getattribute__(obj, "__dict__")  # type: ignore[no-any-return]
    except AttributeError:
        return {}
