"""Instrumentation: while it is on, code under test announces each access to memory that threads may share.

    with instrumented(root=project) as instrumentation:
        ...                     # runs of the program; `scheduler.control.access` hears of each access

Outside of the `with` the plain code runs: the modules are imported as ever, and nothing of them is rewritten. On entry
each function whose source is known gets other code (`function.__code__`), compiled from the rewritten syntax tree of
its module; on exit it gets its own back. Functions, classes and modules stay the objects that they are, so a module
that is imported already, from wherever, needs no second import, and what the tests hold of it stays valid. See
docs/decisions/instrumentation.md.

What is rewritten into what is the subject of `_rewrite`; who announces it, of `_accesses`, `_iteration` and `_calls`;
what the announcements say, of `_names` and `_containers`; and how they are made, of `_announcing`.
"""

from __future__ import annotations

import functools
import gc
import importlib.abc
import importlib.machinery
import inspect
import linecache
import os
import sys
import sysconfig
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from greenthreads.patch import finders_behind
from greenthreads.testing import _mutants
from greenthreads.testing._accesses import forget_classes
from greenthreads.testing._announcing import forget_notes
from greenthreads.testing._codes import CACHE, Codes
from greenthreads.testing._coverage import Coverage, LeftOut
from greenthreads.testing._functions import among, forget, functions_in, keep, those_made_since_the_freeze, with_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import TracebackType

__all__ = ["Instrumentation", "instrumented", "is_typed_in", "strip_frames"]

# What runs the exploration can't be explored by it. Locks and queues announce what they do by `control.active`.
_OURS: Final = ("greenthreads", "scheduler", "greenlet")
_LIBRARIES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD: Final = tuple(
    os.path.join(os.path.realpath(path), "")
    for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if path
)
# Also where a module of ours goes by another name.
_ENGINE: Final = tuple(
    os.path.join(os.path.dirname(os.path.realpath(sys.modules[name].__file__ or "")), "")
    for name in ("greenthreads", "scheduler")
)
_HERE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


class Instrumentation:
    """A choice of modules to instrument. A context manager: they are while it is entered.

    `root` is the directory of the project: modules below it are instrumented, but for installed packages. `include`
    names others, with what is inside of them; a name that can't be instrumented is in `coverage`, not an error. Modules
    that are imported meanwhile are instrumented as they are. With `notes`, or for those whose files it names, values
    are told to `control.note`, at some cost.

    Not for two at a time in one process: RuntimeError.
    """

    _active: Instrumentation | None = None

    def __init__(
        self,
        include: Iterable[str] = (),
        root: str | os.PathLike[str] | None = None,
        *,
        notes: bool | frozenset[str] = False,
    ) -> None:
        self.include = tuple(include)
        self.root = None if root is None else os.path.join(os.path.realpath(root), "")
        self.notes = notes
        self._codes: dict[str, Codes] = {}
        # The codes of each module: one, but where it was typed in piece by piece.
        self._modules: dict[str, list[Codes]] = {}
        self._left_out: dict[str, str] = {}
        self._made_by_exec: dict[str, set[str]] = {}
        self._changed: dict[str, set[str]] = {}
        self._exchanged: list[tuple[FunctionType, CodeType]] = []
        self._was_frozen = False
        # Those of the modules, as of the entry.
        self._functions: list[FunctionType] | None = None
        self._finder = _Finder(self)

    @property
    def coverage(self) -> Coverage:
        """What is instrumented, as of the last entry or import."""
        left_out = [LeftOut(what, why) for what, why in sorted(self._left_out.items())]
        for name in sorted(self._modules):
            alone = 0
            for codes in self._modules[name]:
                left_out += [LeftOut(f"{name}.{each}", "its code could not be exchanged") for each in codes.unfit]
                changed = self._changed.get(codes.filename, ())
                left_out += [LeftOut(f"{name}.{each}", "its source has changed") for each in sorted(changed)]
                alone += codes.asynchronous
            if alone:
                left_out.append(LeftOut(f"{alone} async function{'s' * (alone > 1)} of {name}", "left alone"))
            made = len(self._made_by_exec.get(name, ()))
            if made:
                left_out.append(LeftOut(f"{made} function{'s' * (made > 1)} of {name}", "made by exec: no source"))
        return Coverage(tuple(sorted(self._modules)), tuple(left_out))

    def __enter__(self) -> Instrumentation:
        if Instrumentation._active is not None:
            raise RuntimeError("the program is instrumented already: leave that instrumentation first")
        Instrumentation._active = self
        # The collector tells of no function that is frozen. After the exchange all are: then on exit only those are
        # looked through that are new, and so does the collector itself, whenever it runs meanwhile.
        self._was_frozen = gc.get_freeze_count() > _FROZEN_AT_START
        try:
            if self._was_frozen:
                forget()
            gc.unfreeze()
            forget_notes()
            forget_classes()
            self._choose(list(sys.modules.items()))
            self._exchange()
            gc.freeze()
        except BaseException:
            self.__exit__()
            raise
        sys.meta_path.insert(0, self._finder)
        gc.callbacks.append(_before_collection)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if _before_collection in gc.callbacks:
            gc.callbacks.remove(_before_collection)
        self._exchange_back()
        forget_notes()
        forget_classes()
        if not self._was_frozen:
            gc.unfreeze()
        Instrumentation._active = None

    # ---- Which modules -----------------------------------------------------------------------------------------------

    def wants(self, name: str, filename: str | None) -> bool:
        """Whether a module is to be instrumented, by its name and where it comes from."""
        top = name.partition(".")[0]
        if top in _OURS:
            return False
        if any(name == each or name.startswith(f"{each}.") for each in self.include):
            return True
        if self.root is None or filename is None:
            return False
        path = _real_path(filename)
        if not path.startswith(self.root) or path.startswith(_ENGINE):
            return False
        below = path[len(self.root) - 1 :]
        return not any(each in below for each in _LIBRARIES) and not any(
            path.startswith(each) and not self.root.startswith(each) for each in _STANDARD
        )

    def _choose(self, modules: Sequence[tuple[str, ModuleType]]) -> None:
        for name in self.include:
            if name.partition(".")[0] in _OURS:
                self._left_out[name] = "it runs the exploration"
            elif name not in sys.modules:
                self._left_out[name] = "not imported"
        for name, module in modules:
            # What stands in `sys.modules` may be anything, and run code when it is asked for a `__file__`.
            if not isinstance(module, ModuleType):
                continue
            namespace = ModuleType.__getattribute__(module, "__dict__")
            filename = namespace.get("__file__")
            if name not in self._modules and self.wants(name, filename if isinstance(filename, str) else None):
                self._left_out.pop(name, None)
                self._compile(name, namespace)

    def _compile(self, name: str, namespace: dict[str, Any]) -> Codes | None:
        """Compile a module's source; None, and an entry of the coverage, if it has none."""
        spec = namespace.get("__spec__")
        loader = getattr(spec, "loader", None) or namespace.get("__loader__")
        filename = namespace.get("__file__")
        if name == "__main__" and is_typed_in():
            self._compile_typed_in(name, namespace)
            return None
        if not isinstance(filename, str):
            if namespace.get("__path__") is None:
                self._left_out[name] = "built in" if name in sys.builtin_module_names else "no source"
            return None
        if filename.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
            self._left_out[name] = "written in C"
            return None
        codes = CACHE.get(self._key(filename))
        stamp = _stamp(filename)
        if codes is None or codes.namespace is not namespace or stamp is None or codes.stamp != stamp:
            try:
                codes = self._made(_source(filename, loader), filename, namespace, loader=loader)
            except (OSError, SyntaxError, ValueError):
                self._left_out[name] = "no source"
                return None
            codes.stamp = stamp
        self._codes[filename] = codes
        self._modules[name] = [codes]
        return codes

    def _compile_typed_in(self, name: str, namespace: dict[str, Any]) -> None:
        """Compile the sources of a module that is in no file: the cells of a notebook, the inputs of an interpreter.

        To Python each of them is a file of its own, by a name under which `linecache` has it.
        """
        for function in among(those_made_since_the_freeze(), {}, {id(namespace): name}):
            filename = function.__code__.co_filename
            lines = [] if filename in self._codes else _lines(function)
            if not lines:
                continue
            try:
                codes = self._made("".join(lines).encode(), filename, namespace, like=function.__code__)
            except (SyntaxError, ValueError):
                continue
            self._codes[filename] = codes
            self._modules.setdefault(name, []).append(codes)
        if name not in self._modules:
            self._left_out[name] = "no source"

    def _made(self, source: bytes, filename: str, namespace: dict[str, Any], **how: Any) -> Codes:
        """The code of that source: compiled, unless that was done before."""
        key = self._key(filename)
        codes = CACHE.get(key)
        if codes is None or not codes.is_of(source, namespace):
            codes = Codes(source, filename, namespace, notes=key[1], mutants=_mutants.active, **how)
            CACHE[key] = codes
        return codes

    def _key(self, filename: str) -> tuple[str, bool, object]:
        notes = self.notes if isinstance(self.notes, bool) else os.path.abspath(filename) in self.notes
        mutants = _mutants.active
        return filename, notes, None if mutants is None else mutants.version(filename)

    # ---- The exchange ------------------------------------------------------------------------------------------------

    def _exchange(self) -> None:
        """Give every function of the modules its instrumented code.

        Every one that there is: the collector knows all functions, also those that are in no module or class any more,
        but in a decorator's closure, a registry, a partial.
        """
        codes = self._codes
        for kept in self._kept_codes():
            for code in [each for each in kept if type(each) is CodeType]:
                of = codes.get(code.co_filename)
                other = None if of is None else of.instrumented(code)
                if other is not None:
                    kept.remove(code)
                    kept.add(other)
        namespaces = self._namespaces()
        self._functions = functions_in(codes, namespaces)
        for function in self._functions:
            code = function.__code__
            if code.co_name == "<module>":
                continue  # A module that is being run now: it is not run again.
            of = codes.get(code.co_filename)
            other = None if of is None else of.instrumented(code)
            if other is not None:
                # Others are garbage that the collector has emptied, and that is still in its lists.
                if len(code.co_freevars) == len(function.__closure__ or ()):
                    function.__code__ = other
                    self._exchanged.append((function, code))
            elif not os.path.exists(code.co_filename):
                # (`<string>` is what many call a file that there is not, in modules that are not instrumented, too.)
                name = namespaces.get(id(function.__globals__))
                if name is not None:
                    self._made_by_exec.setdefault(name, set()).add(function.__qualname__)
            elif of is not None and function.__globals__ is of.namespace:
                # Others only say that they are of this file, as what a decorator makes of a function of it may.
                self._changed.setdefault(code.co_filename, set()).add(function.__qualname__)

    def _namespaces(self) -> dict[int, str]:
        """The names of the modules, by the identity of their namespaces."""
        return {id(codes[0].namespace): name for name, codes in self._modules.items()}

    def _kept_codes(self) -> Iterator[set[Any]]:
        """Sets of code objects in the modules: by such a set, libraries know their own frames."""
        for codes in self._codes.values():
            for value in codes.namespace.copy().values():
                if type(value) is set and value and type(next(iter(value))) is CodeType:
                    yield value

    def _exchange_back(self) -> None:
        """Give every function its plain code back, those that were made meanwhile included."""
        plain_of: dict[int, tuple[CodeType, CodeType]] = {}
        for codes in self._codes.values():
            plain_of.update(codes.plain_of)
        for function, code in self._exchanged:
            # Unless the program has given it yet another code.
            if id(function.__code__) in plain_of:
                function.__code__ = code
        self._exchanged.clear()
        if not plain_of:
            return
        for kept in self._kept_codes():
            for each in [each for each in kept if id(each) in plain_of]:
                kept.remove(each)
                kept.add(plain_of[id(each)][1])
        new = those_made_since_the_freeze()
        for function in with_code(new, plain_of):
            function.__code__ = plain_of[id(function.__code__)][1]
        if self._functions is not None:
            namespaces = self._namespaces()
            keep({*self._functions, *among(new, self._codes, namespaces)}, self._codes, namespaces)


def is_typed_in() -> bool:
    """Whether the main module is in no file: that of a notebook, of an interactive interpreter, of `python -c`."""
    # The interactive interpreter of Python 3.13 is a program in a file, and what one types in goes to its main module.
    return hasattr(sys, "ps1") or getattr(sys.modules["__main__"], "__file__", None) is None


def instrumented(
    include: Iterable[str] = (), root: str | os.PathLike[str] | None = None, *, notes: bool = False
) -> Instrumentation:
    """An `Instrumentation`, to be entered."""
    return Instrumentation(include, root, notes=notes)


def strip_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this package, in place.

    There are none but where a built-in function was called by a name that does not tell (see `_calls`).
    """
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    each = traceback
    while each is not None:
        while each.tb_next is not None and each.tb_next.tb_frame.f_code.co_filename.startswith(_HERE):
            each.tb_next = each.tb_next.tb_next
        each = each.tb_next
    return traceback


# Python 3.12 begins with some hundreds; a program that freezes its objects has more.
_FROZEN_AT_START: Final = 2_000


@functools.cache
def _real_path(filename: str) -> str:
    # Asked for each module at each entry, and the system for each folder on the way.
    return os.path.realpath(filename)


def _stamp(filename: str) -> tuple[int, int] | None:
    """What changes when a file does; None if there is no such file."""
    try:
        stat = os.stat(filename)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _source(filename: str, loader: object) -> bytes:
    if isinstance(loader, importlib.abc.ResourceLoader):
        return loader.get_data(filename)
    with open(filename, "rb") as file:
        return file.read()


def _lines(function: FunctionType) -> list[str]:
    """The source that a function was typed in with, if anybody has kept it."""
    filename = function.__code__.co_filename
    lines = linecache.getlines(filename)
    if lines:
        return lines
    try:
        lines, _number = inspect.findsource(function)
    except (OSError, TypeError):
        return []
    # For those who quote it, us among them. (Python 3.14 has it by the code alone.)
    linecache.cache.setdefault(filename, (sum(map(len, lines)), None, lines, filename))
    return lines


def _before_collection(phase: str, info: dict[str, int]) -> None:
    """Let classes go that nobody else has, before a full collection: the program may look for their end."""
    if phase == "start" and info["generation"] == 2:
        forget_classes()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and has modules that are wanted run instrumented from their first line."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        self.instrumentation = instrumentation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in finders_behind(self):
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if self.instrumentation.wants(fullname, spec.origin) and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self.instrumentation)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Stands for a module's own loader until its code has run."""

    def __init__(self, loader: Any, instrumentation: Instrumentation) -> None:
        self.loader = loader
        self.instrumentation = instrumentation

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        instrumentation = self.instrumentation
        instrumentation._left_out.pop(module.__name__, None)
        codes = instrumentation._compile(module.__name__, module.__dict__)
        if codes is None:
            self.loader.exec_module(module)
        else:
            exec(codes.module, module.__dict__)
