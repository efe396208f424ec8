"""Put this library in the place of the standard modules, for a scope or for the process.

    with patched():          # programs and libraries in here find our threads, locks and queues
        run_scheduler(main)

    patch_all()              # first thing in a program, for good

What is replaced stands in the table of `_replacements`. Names that other modules have bound before (`from threading
import Lock`) are replaced there, too. At the end of a scope all of it is put back as it was. What stays as it is
because the patch comes too late is named in a warning (`_Patch.too_late`).

Modules for blocking I/O are imported by the patch, if they were not before: imported later, their classes would derive
from ours, and go on doing so after the scope.

**`threading.Thread` stays the class that it is**, and gets our methods. Replaced by ours, it would leave every subclass
that a library made before on kernel threads, and `isinstance` would divide the two. See docs/decisions/patching.md.

Not reached: what C code does by itself, objects that were made before the patch (but see `_Patch.locks`), and what a
program has stored elsewhere than in the globals of a module.
"""

from __future__ import annotations

import _thread as _standard_thread
import importlib
import os
import sys
import threading as _standard
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

from greenthreads import _event, _lock, _rlock, _thread, thread, threads
from greenthreads._replacements import EARLY, TABLE, names_of_builtins
from greenthreads.carriers import standard_threads
from scheduler.kernel import current_task
from scheduler.task import UserTask

__all__ = ["is_patched", "patch_all", "patched"]

_MISSING: Any = object()

_get_ident = _standard_thread.get_ident
_allocate_lock = _standard_thread.allocate_lock

# The standard types of locks. Kept here, since the names are what is replaced.
_LOCK = type(_allocate_lock())
_RLOCK = _standard_thread.RLock
_LOCK_TYPES = frozenset((_LOCK, _RLOCK))

# Modules whose globals are left alone: they need what they have.
_OURS = ("greenthreads", "scheduler", "greenlet")


# ---- Doing and undoing -----------------------------------------------------------------------------------------------


class _Patch:
    """One patch of the process, and how to take it back."""

    def __init__(self, files: bool = False, warn: bool = True) -> None:
        self._files = files
        self._warn = warn
        # What stood in a namespace before: (the module or class, the name, the value), in the order of the changes.
        self._before: list[tuple[Any, str, Any]] = []
        # Replacements by the identity of what they replace; the originals live in `_before`.
        self._new_for: dict[int, tuple[Any, Any]] = {}
        self._finder: Any = _Finder(self)

    def apply(self) -> None:
        """Replace everything."""
        for name in EARLY:
            try:
                importlib.import_module(name)
            except ImportError:
                pass  # A Python without it.
        # All of them first: what is imported for it finds the standard modules as they are.
        table = {name: names() for name, names in TABLE.items() if name in sys.modules}
        if self._files:
            table["builtins"] = names_of_builtins()
        late = self.too_late(table)
        for module_name, replacements in table.items():
            self.replace(sys.modules[module_name], replacements)
        sys.meta_path.insert(0, self._finder)
        self._give_methods()
        self.set(_standard_after_fork, "__code__", _do_nothing.__code__)
        self._names_bound_before()
        late += self.locks()
        if late and self._warn:
            warnings.warn(
                f"patched too late for {', '.join(late)}: patch before these modules are imported",
                RuntimeWarning,
                stacklevel=4,
            )

    def replace(self, module: ModuleType, replacements: dict[str, Any]) -> None:
        """Put `replacements` into one of the modules of the table."""
        for name, new in replacements.items():
            if "." in name:
                class_name, attribute = name.split(".")
                self.set(getattr(module, class_name), attribute, new)
                continue
            old = getattr(module, name)
            if old is new:
                continue
            if isinstance(old, (type, FunctionType, MethodType, type(len))):
                self._new_for[id(old)] = (old, new)
            self._claim_module(new, module.__name__, name)
            self.set(module, name, new)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, and remember what it was."""
        # A class's attribute as it is, not what its descriptor makes of it; a function's are in no dict.
        is_function = isinstance(owner, FunctionType)
        before = getattr(owner, name) if is_function else vars(owner).get(name, _MISSING)
        self._before.append((owner, name, before))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put everything back."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        while self._before:
            owner, name, value = self._before.pop()
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)

    def _claim_module(self, new: Any, module_name: str, name: str) -> None:
        """While the class is what the standard module has under its name, it says so, as pickle and others rely on."""
        if getattr(new, "__name__", None) == name and isinstance(new, (type, FunctionType)):
            if new.__module__.partition(".")[0] in _OURS:
                self.set(new, "__module__", module_name)

    def _give_methods(self) -> None:
        """Give the standard Thread the methods of ours."""
        for name, value in vars(thread.Thread).items():
            if name not in _NOT_METHODS:
                self.set(_standard.Thread, name, value)
        self.set(_standard.Thread, "start", _start)
        self.set(_standard.Thread, "_falls_back", True)
        self.set(threads, "standard_are_ours", True)

    def _names_bound_before(self) -> None:
        known = self._new_for.keys()
        for module in _other_modules():
            # Looked through in C first: few modules have any, and an exploration does this each time.
            if known.isdisjoint(map(id, list(vars(module).values()))):
                continue
            for name, value in list(vars(module).items()):
                found = self._new_for.get(id(value))
                if found is not None and found[0] is value:
                    self.set(module, name, found[1])

    def too_late(self, table: dict[str, dict[str, Any]]) -> list[str]:
        """Classes of the program that were derived from the standard ones, and will go on blocking."""
        found = []
        for module_name, name in (("socket", "socket"), ("subprocess", "Popen"), ("threading", "local")):
            if name in table.get(module_name, ()):
                derived = getattr(sys.modules[module_name], name).__subclasses__()
                found += [f"class {_full_name(c)}" for c in derived if _is_of_program(c.__module__)]
        return found

    def locks(self) -> list[str]:
        """Replace locks that modules made when they were imported, and the standard library in its objects.

        Only those that nobody holds, and that nobody has except for the place where we found them: with two locks in
        the place of one, nothing would be locked. Returns the names of the others, if they are the program's.
        """
        late = []
        for module in [*_other_modules(), _standard]:
            left = self._locks_of(module)
            if _is_of_program(module.__name__):
                late += [f"lock {module.__name__}.{name}" for name in left]
        logging = sys.modules.get("logging")
        if logging is not None:
            for reference in list(logging._handlerList):
                handler = reference()
                if handler is not None:
                    self._locks_of(handler)
        return late

    def _locks_of(self, owner: Any) -> list[str]:
        namespace: dict[str, Any] = vars(owner)
        left: list[str] = []
        if _LOCK_TYPES.isdisjoint(map(type, list(namespace.values()))):
            return left
        for name in [name for name, value in namespace.items() if type(value) in (_LOCK, _RLOCK)]:
            # One reference is the namespace's, one the argument's.
            if sys.getrefcount(namespace[name]) > 2 or _is_held(namespace[name]):
                left.append(name)
                continue
            self.set(owner, name, _lock.Lock() if type(namespace[name]) is _LOCK else _rlock.RLock())
        return left


def finders_behind(finder: object) -> list[Any]:
    """Those of `sys.meta_path` that come after `finder`. The others have been asked, and may ask it in their turn."""
    finders: list[Any] = list(sys.meta_path)
    return finders[finders.index(finder) + 1 :] if finder in finders else finders


class _Finder:
    """On `sys.meta_path`: finds the modules of the table, to patch them once they are there."""

    def __init__(self, patch: _Patch) -> None:
        self._patch = patch

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What another finder finds, with a loader of ours."""
        if name not in TABLE:
            return None
        for finder in finders_behind(self):
            spec: Any = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._patch)
                return spec
        return None


class _Loader:
    """Loads a module of the table as `loader` does, then patches it."""

    def __init__(self, loader: Any, patch: _Patch) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: Any) -> Any:
        """See `importlib.abc.Loader`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """See `importlib.abc.Loader`."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._patch.replace(module, TABLE[module.__name__]())


# By what the standard class starts a kernel thread.
_STARTER = "_start_joinable_thread" if hasattr(_standard, "_start_joinable_thread") else "_start_new_thread"


def _start(self: Any) -> None:
    """`Thread.start` while patched.

    Debuggers put a function of theirs in the place of the one by which the standard class starts threads, which calls
    the former one with a function around ours. Where somebody has done so, the thread is started by that.
    """
    starter: Any = getattr(_standard, _STARTER)
    if starter is getattr(_thread, _STARTER[1:]) or not self._initialized or self._task is not None:
        thread.Thread.start(self)
        return
    started = _event.Event()

    def bootstrap() -> None:
        task = current_task()
        if isinstance(task, UserTask):
            task.daemon = self._daemonic
        self._task, task.thread = task, self
        started.set()
        self._bootstrap()

    if _STARTER == "_start_new_thread":
        starter(bootstrap, ())
    else:
        starter(bootstrap, handle=None, daemon=self._daemonic)
    started.wait()


_NOT_METHODS = frozenset(
    ("__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__", "__weakref__")
)


def _other_modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if type(module) is ModuleType and name.partition(".")[0] not in _OURS and name not in TABLE
    ]


def module_root(name: object) -> str:
    """The first part of a module's name; empty if it is none.

    A class's `__module__` may be anything, like a property: a proxy has the module of what it stands for.
    """
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_of_program(module_name: object) -> bool:
    top = module_root(module_name)
    # Tests and debuggers look on from outside.
    return top not in sys.stdlib_module_names and top not in _OURS and top not in _TOOLS


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}" if isinstance(cls.__module__, str) else cls.__qualname__


_TOOLS = ("_pytest", "pytest", "pytest_timeout", "execnet", "xdist", "coverage", "pydevd", "debugpy", "test")


def _is_held(lock: Any) -> bool:
    if lock.acquire(False):
        lock.release()
        return False
    return True


# Nested scopes, outermost first; only the first one changes anything.
_scopes: list[_Patch | None] = []


def complete(name: str) -> None:
    """Patch the module `name`, whose replacements were not there yet when it was imported."""
    if _scopes and _scopes[0] is not None:
        _scopes[0].replace(sys.modules[name], TABLE[name]())


def _begin(files: bool, warn: bool = True) -> None:
    if _scopes:
        _scopes.append(None)
        return
    patch = _Patch(files, warn)
    try:
        patch.apply()
    except BaseException:
        patch.undo()
        raise
    _scopes.append(patch)


def _end() -> None:
    patch = _scopes.pop()
    if patch is not None:
        patch.undo()


def replaced_now() -> dict[int, tuple[Any, Any]]:
    """What is replaced now, by its identity: the original, and what is in its place."""
    return dict(_scopes[0]._new_for) if _scopes and _scopes[0] is not None else {}


def is_patched() -> bool:
    """Whether the standard modules are replaced now."""
    return bool(_scopes)


@contextmanager
def patched(*, files: bool = False, warn: bool = True) -> Iterator[None]:
    """Have the standard modules replaced in a `with` block.

    The change is the process's, not the thread's. Threads that are started in the block must end there. Scopes may be
    nested; the outermost decides. `files` also replaces `open` and `input` by ones that work in kernel threads.

    RuntimeWarning if something of the program's can't be replaced any more, unless `warn` is false.
    """
    _begin(files, warn)
    try:
        yield
    finally:
        _end()


def patch_all(*, files: bool = False) -> None:
    """Replace the standard modules for good. Best called before anything else is imported; further calls do nothing.

    `files` and the warning: see `patched`.
    """
    if not _scopes:
        _begin(files)


# ---- Forks -----------------------------------------------------------------------------------------------------------

# What threading does in the child of a fork it does to its own idea of threads, by names that we replace; and the
# system holds the function itself, so to replace that is not enough. While patched, its code is that of one that does
# nothing, and `_in_child` does what is left to do. (In an unpatched program the standard module does it, and finds
# our kernel threads among its own: see `Thread._after_fork`.)
_standard_after_fork: FunctionType = _standard._after_fork  # type: ignore[attr-defined]


def _do_nothing() -> None:
    pass


def _in_child() -> None:
    """Only the standard thread that forked is left."""
    if not _scopes:
        return
    mine = _get_ident()
    for ident, each in list(standard_threads.items()):
        if ident != mine:
            del standard_threads[ident]
            if not isinstance(each, thread.Thread):
                _mark_ended(each)


def _mark_ended(each: Any) -> None:
    """Let a standard thread, which the fork has left in the parent, say that it has ended."""
    if hasattr(each, "_is_stopped"):  # before Python 3.13
        each._is_stopped, each._tstate_lock = True, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
