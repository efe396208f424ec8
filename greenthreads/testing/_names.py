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
from greenthreads.testing._kinds import is_a

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.control import Footprint

    # None: nothing. True: the object itself. Otherwise a function of the object.
    How = Callable[[Any], "list[tuple[Any, Footprint]]"] | bool | None

__all__ = ["AttributeName", "Variable", "attribute_name", "forget_types"]

# Past whatever a class, a metaclass or a module of the program's says of itself.
_mro: Final = type.__dict__["__mro__"].__get__
_flags: Final = type.__dict__["__flags__"].__get__
_dict_offset: Final = type.__dict__["__dictoffset__"].__get__
_dict_of_class: Final = type.__dict__["__dict__"].__get__
_dict_of_module: Final = type.__getattribute__(types.ModuleType, "__dict__")["__dict__"].__get__

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

    __slots__ = ("name", "read", "write", "written")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        # The same for setting and deleting it.
        self.written = _Written(self)
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
            return _is_heap_type(owner) or None
        if descriptor is functools.cached_property:
            return self._cached
        if _has(descriptor, "__set__") or _has(descriptor, "__delete__"):
            return None
        if _has(descriptor, "__get__"):
            return None
        if not _is_heap_type(owner):
            return True
        of_class = (owner, self.read)

        def class_variable(obj: Any) -> list[tuple[Any, Footprint]]:
            return [(obj, self.read)] if self.name in _own(obj) else [(obj, self.read), of_class]

        return class_variable

    def _of_class(self, cls: Any) -> list[tuple[Any, Footprint]]:
        owner, value = _find(cls, self.name)
        if owner is None or is_a(value, _CONSTANT) or not _is_heap_type(owner):
            return []
        return [(owner, self.read)]

    def _of_module(self, module: Any) -> list[tuple[Any, Footprint]]:
        namespace = _dict_of_module(module)
        if isinstance(namespace.get(self.name, type), _CONSTANT):
            return []
        return [(namespace, self.read)]

    def _cached(self, obj: Any) -> list[tuple[Any, Footprint]]:
        return [(obj, self.read if self.name in _own(obj) else self.write)]


class _Written(dict):  # type: ignore[type-arg]
    """What setting or deleting an attribute of some name touches, for each type of object."""

    __slots__ = ("of",)

    def __init__(self, of: AttributeName) -> None:
        super().__init__()
        self.of = of

    def __missing__(self, kind: type) -> How:
        self[kind] = how = self._how(kind)
        return how

    def _how(self, kind: type) -> How:
        name = self.of
        if issubclass(kind, _LOCALS):
            return None
        if issubclass(kind, types.ModuleType):
            return lambda obj: [(_dict_of_module(obj), name.write)]
        if issubclass(kind, type):
            return self._of_class
        owner, value = _find(kind, name.name)
        if owner is not None:
            descriptor = type(value)
            if descriptor is types.MemberDescriptorType:
                return True
            if _has(descriptor, "__set__"):
                return None if _is_heap_type(owner) else True
            if name[kind] is None:
                # A method is replaced on an instance: from now on the name is read on instances.
                name[kind] = True
        return True

    def _of_class(self, cls: Any) -> list[tuple[Any, Footprint]]:
        # What instances see by this name may be something else from now on.
        self.of.clear()
        self.clear()
        return [(cls, self.of.write)]


class Variable:
    """A global or closure variable, as instrumented code names it."""

    __slots__ = ("name", "namespace", "read", "write")

    def __init__(self, name: str, namespace: dict[str, Any] | None) -> None:
        self.name = name
        # Of a global: the namespace of its module.
        self.namespace = namespace
        self.read: Footprint = ((name, False),)
        self.write: Footprint = ((name, True),)


_names: dict[str, AttributeName] = {}


def attribute_name(name: str) -> AttributeName:
    """The one AttributeName of a name."""
    found = _names.get(name)
    if found is None:
        found = _names[name] = AttributeName(name)
    return found


def forget_types() -> None:
    """Forget what is known of types: classes may have changed, or gone, since."""
    for name in list(_names.values()):
        name.clear()
        name.written.clear()


def _find(kind: type, name: str) -> tuple[type | None, Any]:
    for base in _mro(kind) or ():
        value = _dict_of_class(base).get(name, _MISSING)
        if value is not _MISSING:
            return base, value
    return None, None


def _has(kind: type, name: str) -> bool:
    return _find(kind, name)[0] is not None


def _is_heap_type(kind: type) -> bool:
    """Whether a class was made by a class statement, or could have been."""
    return bool(_flags(kind) & 1 << 9)


def _has_own(kind: type) -> bool:
    # Py_TPFLAGS_MANAGED_DICT, 3.11 and newer: an instance dict without an offset.
    return _dict_offset(kind) != 0 or bool(_flags(kind) & 1 << 4) or _has(kind, "__getattr__")


def _own(obj: Any) -> dict[str, Any]:
    try:
        own = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return {}
    return own if isinstance(own, dict) else {}
