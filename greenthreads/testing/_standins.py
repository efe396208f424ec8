"""What the code under test made before the run: its locks, queues and locals, for the length of a session.

A module makes a lock when it is imported, a class has one among its attributes, a default argument is a queue. These
are the standard library's, written in C: two threads under control that meet at one would meet as one kernel thread,
and it would block for good. So each is replaced, wherever the code under test keeps it, by one of ours in the same
state, and put back afterwards. Where is found by walking the graph of objects, from the function under test, and from
the modules that belong neither to the standard library, nor to us, nor to a test tool.

What is replaced: locks, `RLock`, `SimpleQueue`, `threading.local`, also bound methods of them (a standard Condition
keeps some), and the names that `greenthreads.patch` replaces in modules, where a class, a default argument, a
`partial` or a `defaultdict` has them.

What is not: conditions, events, queues and the like, which the standard library writes in Python. They work with our
locks in the place of theirs. But the state of all of these, ours too, is put back before each execution to what it was:
an execution that was torn down must leave no lock held to the next. (What else a program keeps is its own business. One
that behaves differently the second time diverges, and is told so.)

A place that has changed meanwhile is left as it is: the program has put something else there, and meant it.
"""

from __future__ import annotations

import gc
import re
import sys
import types
from _queue import SimpleQueue as _CSimpleQueue
from _thread import RLock as _CRLock
from _thread import _local as _CLocal
from _thread import allocate_lock
from collections import defaultdict, deque
from functools import partial
from typing import TYPE_CHECKING, Any

from greenthreads import _local as local_module
from greenthreads._local import local
from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._semaphore import Semaphore
from greenthreads.patch import module_root
from greenthreads.queue import SimpleQueue
from greenthreads.testing._kinds import is_a
from greenthreads.testing._locals import Locals
from greenthreads.testing._states import Executor, is_ours, is_primitive, parts_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scheduler.kernel import KernelTask

__all__ = ["StandIns"]

_CLock: Any = type(allocate_lock())

# Whose functions stand for those of `time` and `random`.
_WORLD = "greenthreads.testing._environment"
# Whose namespaces are not looked into: the tools that run tests.
_TOOLS = frozenset(
    (
        "_pytest", "attr", "attrs", "coverage", "debugpy", "execnet", "greenlet", "greenthreads", "hypothesis",
        "iniconfig", "numpy", "packaging", "pip", "pkg_resources", "pluggy", "py", "pydevd", "pygments", "pytest",
        "pytest_cov", "pytest_timeout", "scheduler", "setuptools", "sortedcontainers", "xdist",
    )
)  # fmt: skip

# What refers to nothing that could matter.
_LEAVES = frozenset(
    (
        bool, bytes, complex, float, int, range, str, types.AsyncGeneratorType, types.BuiltinFunctionType,
        types.CodeType, types.CoroutineType, types.EllipsisType, types.FrameType, types.GeneratorType,
        types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType, types.NoneType,
        types.NotImplementedType, types.TracebackType, types.WrapperDescriptorType,
    )
)  # fmt: skip

_SAME: Any = object()
_HELD = re.compile(r"owner=(\d+) count=(\d+)")
_HEAP_TYPE = 1 << 9


def under_test(module_name: object) -> bool:
    """Whether a module's namespace belongs to the code under test, as far as its name tells."""
    root = module_root(module_name)
    return root not in sys.stdlib_module_names and root not in _TOOLS


class StandIns:
    """The replacements of one session: `install` them, `reset` before each execution, `restore` at the end."""

    def __init__(self, host: KernelTask) -> None:
        self._host = host
        self._locals = Locals(host)
        # What takes the place of what, by its identity; the old one is kept beside.
        self._new_for: dict[int, tuple[Any, Any]] = {}
        self._undo: list[Callable[[], object]] = []
        self._primitives: dict[int, Any] = {}
        # During the walk: the slots of each class.
        self._slots: dict[type, list[tuple[str, Any]]] = {}
        self._resets: list[Callable[[], object]] = []

    def install(self, fn: object, names: dict[int, tuple[Any, Any]]) -> None:
        """Replace what `fn` and the modules under test refer to; and what is in `names`: by its id, it and the new."""
        self._new_for.update(names)
        self._locals.install(under_test)
        roots: list[Any] = [fn]
        roots += [
            module for name, module in list(sys.modules.items()) if type(module) is types.ModuleType and _is_root(name)
        ]
        self._walk(roots)
        for primitive in self._primitives.values():
            if isinstance(primitive, Executor):
                # Its workers are kernel threads, out of control. They wait at the queue that they know; the one that it
                # has now is a stand-in. So let it believe that it has none.
                threads, semaphore = primitive._threads, primitive._idle_semaphore
                self._undo.append(partial(vars(primitive).update, _threads=threads, _idle_semaphore=semaphore))
                primitive._threads, primitive._idle_semaphore = type(threads)(), Semaphore(0)
                self._resets.append(state_of(primitive._idle_semaphore))
            self._resets.append(state_of(primitive))
        self._primitives.clear()
        self._slots.clear()

    def reset(self) -> None:
        """Give everything the state that it had at first."""
        for reset in self._resets:
            reset()
        self._locals.reset()

    def restore(self) -> None:
        """Put everything back."""
        self.reset()
        while self._undo:
            self._undo.pop()()
        self._locals.restore()
        self._resets.clear()
        self._new_for.clear()

    # ---- The walk ----------------------------------------------------------------------------------------------------

    def _walk(self, roots: list[Any]) -> None:
        seen = {id(self), id(self.__dict__), id(self._new_for), id(self._undo), id(roots), id(sys.modules)}
        stack = roots
        while stack:
            obj = stack.pop()
            kind = type(obj)
            if kind in _LEAVES or id(obj) in seen:
                continue
            seen.add(id(obj))
            stack += [each for each in self._visit(obj, kind) if type(each) not in _LEAVES and id(each) not in seen]

    def _visit(self, obj: Any, kind: Any) -> Iterable[Any]:
        """Replace what `obj` itself holds; what to visit next."""
        # Most of what there is to walk: none of the questions below is about these.
        if kind in _BUILT_IN:
            visit = _CONTAINERS.get(kind)
            if visit is not None:
                visit(self, obj)
            return gc.get_referents(obj)
        if kind is types.ModuleType:
            return [vars(obj)] if under_test(obj.__name__) else []
        if kind is types.FunctionType:
            return self._visit_function(obj)
        if is_a(obj, type):
            if not obj.__flags__ & _HEAP_TYPE or not under_test(obj.__module__):
                return []
            self._visit_attributes(obj, dict(vars(obj)))
            return [*vars(obj).values(), *obj.__mro__[1:]]
        if kind in _MAKERS or not _is_walked(obj, kind):
            return []
        if is_a(obj, local):
            if dict.__contains__(obj, self._host):
                namespace = dict(dict.__getitem__(obj, self._host))
                self._resets.append(partial(_start_local, obj, self._host, namespace))
            return []
        if is_primitive(obj):
            self._primitives[id(obj)] = obj
            if is_ours(obj):
                # What it stands on stays as it is, but has a state, too.
                return [each for each in parts_of(obj) if is_primitive(each)]
        for container, visit in _CONTAINERS.items():
            if is_a(obj, container):
                visit(self, obj)
                break
        self._visit_instance(obj, kind)
        return gc.get_referents(obj)

    def _visit_function(self, fn: types.FunctionType) -> Iterable[Any]:
        module = fn.__globals__.get("__name__", "")
        if module == _WORLD:
            # A clock or a random function of ours that somebody has kept. The real one inside of it must stay.
            return []
        defaults = self._new(fn.__defaults__)
        if defaults is not _SAME:
            self._undo.append(partial(setattr, fn, "__defaults__", fn.__defaults__))
            fn.__defaults__ = defaults
        found = [fn.__defaults__, fn.__kwdefaults__, *(fn.__closure__ or ())]
        # Asked for, a function makes an empty one for good; most have none.
        if fn.__dict__:
            found.append(fn.__dict__)
        if under_test(str(module)):
            found.append(fn.__globals__)
        return found

    def _visit_dict(self, obj: dict[Any, Any]) -> None:
        if is_a(obj, defaultdict):
            self._visit_attributes(obj, {"default_factory": obj.default_factory})
        for key, old in list(obj.items()):
            if type(old) in _PLAIN:
                continue
            new = self._new(old)
            if new is not _SAME:
                obj[key] = new
                self._undo.append(partial(_put_into_dict, obj, key, new, old))

    def _visit_list(self, obj: Any) -> None:
        for index, old in enumerate(list(obj)):
            new = self._new(old)
            if new is not _SAME:
                obj[index] = new
                self._undo.append(partial(_put_into_list, obj, new, old))

    def _visit_set(self, obj: set[Any]) -> None:
        for old in list(obj):
            new = self._new(old)
            if new is not _SAME:
                obj.discard(old)
                obj.add(new)
                self._undo.append(partial(_put_into_set, obj, new, old))

    def _visit_cell(self, obj: types.CellType) -> None:
        try:
            self._visit_attributes(obj, {"cell_contents": obj.cell_contents})
        except ValueError:
            pass  # empty

    def _visit_partial(self, obj: partial[Any]) -> None:
        before: Any = obj.__reduce__()[2]
        function, args, keywords, namespace = before
        parts = [self._new(function), self._new(args)]
        if any(part is not _SAME for part in parts):
            new = [old if part is _SAME else part for old, part in zip((function, args), parts, strict=True)]
            obj.__setstate__((*new, keywords, namespace))  # type: ignore[attr-defined]
            self._undo.append(partial(obj.__setstate__, before))  # type: ignore[attr-defined]

    def _visit_instance(self, obj: Any, kind: Any) -> None:
        attributes = {}
        try:
            namespace = object.__getattribute__(obj, "__dict__")
        except AttributeError:
            namespace = None
        # A dict of its own is visited by itself, unless the interpreter has not made it one yet.
        if type(namespace) is dict:
            self._visit_dict(namespace)
        slots = self._slots.get(kind)
        if slots is None:
            slots = self._slots[kind] = _slots_of(kind)
        for name, member in slots:
            try:
                attributes[name] = member.__get__(obj, kind)
            except AttributeError:
                continue
        self._visit_attributes(obj, attributes)

    def _visit_attributes(self, obj: Any, attributes: dict[str, Any]) -> None:
        for name, old in attributes.items():
            new = self._new(old)
            if new is not _SAME:
                try:
                    _set_attribute(obj, name, new)
                except (AttributeError, TypeError):
                    continue  # read-only
                self._undo.append(partial(_put_attribute, obj, name, new, old))

    # ---- What takes the place of what --------------------------------------------------------------------------------

    def _new(self, old: Any) -> Any:
        kind = type(old)
        if kind in _PLAIN:
            return _SAME
        known = self._new_for.get(id(old))
        if known is not None and known[0] is old:
            return known[1]
        if kind is types.BuiltinFunctionType:
            if type(old.__self__) not in _MAKERS:
                return _SAME
            owner = self._new(old.__self__)
            new = _SAME if owner is _SAME else getattr(owner, old.__name__, _SAME)
        elif kind in _MAKERS:
            new = _MAKERS[kind](self, old)
            if new is not _SAME:
                self._primitives[id(new)] = new
        elif kind is staticmethod or kind is classmethod:
            function = self._new(old.__func__)
            new = _SAME if function is _SAME else kind(function)
        elif is_a(old, (tuple, frozenset)):
            new = self._new_collection(old)
        else:
            return _SAME
        if new is not _SAME:
            self._new_for[id(old)] = (old, new)
        return new

    def _new_collection(self, old: Any) -> Any:
        # A tuple may contain itself, by way of a list; not at this depth, for only tuples in tuples are looked into.
        items = [(each, self._new(each)) for each in old]
        if all(new is _SAME for _old, new in items):
            return _SAME
        base = tuple if is_a(old, tuple) else frozenset
        return base.__new__(type(old), [each if new is _SAME else new for each, new in items])

    def _stand_in_for_lock(self, old: Any) -> Any:
        new = Lock()
        if old.locked():
            # Somebody takes it to be shut: a gate that the code under test will open. Or it is in use by a thread that
            # is not under control; then to wait for it is a deadlock here, and better one that is told of.
            new._bar.acquire()
        return new

    def _stand_in_for_rlock(self, old: Any) -> Any:
        new = RLock()
        # Nothing else tells from outside how often it is held.
        found = _HELD.search(repr(old))
        if found is not None and int(found[2]):
            new._bar.acquire()
            new._count = int(found[2])
            if int(found[1]) == self._host.ident:
                new._owner = self._host
            # Else it is held by a thread that is not under control: for a Lock, see above.
        return new

    def _stand_in_for_queue(self, old: Any) -> Any:
        new: SimpleQueue[Any] = SimpleQueue()
        for _ in range(old.qsize()):
            item = old.get(False)
            old.put(item)
            new._items.append(item)
        return new

    def _stand_in_for_local(self, old: Any) -> Any:
        new = local()
        # The main thread under control shares its namespaces with the thread that we are.
        start = partial(_start_local, new, self._host, dict(old.__dict__))
        start()
        self._resets.append(start)
        return new


def _start_local(new: local, host: KernelTask, namespace: dict[str, Any]) -> None:
    local_module._adopt(new, host, dict(namespace))


def _is_root(module_name: str) -> bool:
    """Whether to begin at a module, rather than to come by it: what is installed comes by."""
    if not under_test(module_name):
        return False
    file = getattr(sys.modules[module_name], "__file__", None)
    return file is not None and "site-packages" not in file and "dist-packages" not in file


def _slots_of(kind: Any) -> list[tuple[str, Any]]:
    if not kind.__flags__ & _HEAP_TYPE:
        return []
    members = [each for cls in kind.__mro__ for each in vars(cls).items()]
    return [(name, member) for name, member in members if type(member) is types.MemberDescriptorType]


def _is_walked(obj: Any, kind: Any) -> bool:
    root = module_root(kind.__module__)
    if root in _TOOLS:
        return is_primitive(obj)
    # A thread that runs is out of our hands, and so is what it stands on.
    return not (root == "threading" and getattr(obj, "_ident", None) is not None)


# ---- How a place gets back what it had -------------------------------------------------------------------------------


def _put_into_dict(obj: dict[Any, Any], key: Any, new: Any, old: Any) -> None:
    if obj.get(key) is new:
        obj[key] = old


def _put_into_list(obj: Any, new: Any, old: Any) -> None:
    for index, each in enumerate(obj):
        if each is new:
            obj[index] = old
            return


def _put_into_set(obj: set[Any], new: Any, old: Any) -> None:
    if new in obj:
        obj.discard(new)
        obj.add(old)


def _put_attribute(obj: Any, name: str, new: Any, old: Any) -> None:
    try:
        now = vars(obj).get(name) if is_a(obj, type) else object.__getattribute__(obj, name)
    except (AttributeError, ValueError):
        return
    if now is new:
        _set_attribute(obj, name, old)


def _set_attribute(obj: Any, name: str, value: Any) -> None:
    # Past what the class makes of it: a frozen one has slots, too.
    if is_a(obj, type):
        type.__setattr__(obj, name, value)
    else:
        object.__setattr__(obj, name, value)


# What a walk need not ask about, beyond what has no references at all.
_PLAIN = _LEAVES - {types.BuiltinFunctionType}
# What has neither attributes nor a class of the program's.
_BUILT_IN: frozenset[Any] = frozenset((dict, frozenset, list, set, tuple, types.CellType))
_CONTAINERS: dict[Any, Callable[[StandIns, Any], None]] = {
    dict: StandIns._visit_dict,
    list: StandIns._visit_list,
    deque: StandIns._visit_list,
    set: StandIns._visit_set,
    types.CellType: StandIns._visit_cell,
    partial: StandIns._visit_partial,
}
_MAKERS: dict[Any, Callable[[StandIns, Any], Any]] = {
    _CLock: StandIns._stand_in_for_lock,
    _CRLock: StandIns._stand_in_for_rlock,
    _CSimpleQueue: StandIns._stand_in_for_queue,
    _CLocal: StandIns._stand_in_for_local,
}
