"""Two code objects for each block of a module: the plain one, as Python compiles it, and the instrumented one.

The plain one is compiled again, from the same source and by the same means as when the module was imported, so it is
equal to what the module's functions hold: that is how they are found, see `Codes.instrumented`. Code objects are equal
by value, first line and positions included; two that are equal mean the same and may stand for each other.
"""

from __future__ import annotations
import __future__

import ast
import functools
import operator
import sys
import warnings
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from greenthreads.testing._building import CAPTURE, MARK
from greenthreads.testing._calls import HELPERS
from greenthreads.testing._names import Variable, attribute_name
from greenthreads.testing._rewrite import rewrite
from greenthreads.testing._sites import SITE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from greenthreads.testing._mutants import Mutants

__all__ = ["CACHE", "Codes", "forget"]

_OPTIMISED: Final = 0x01 | 0x02 | 0x04 | 0x08 | 0x20  # CO_OPTIMIZED, CO_NEWLOCALS, varargs, varkeywords, generator
# What a block's flags tell of the imports from `__future__` that it was compiled under. (The oldest is told by a flag
# that means something else by now.)
_FUTURE: Final = functools.reduce(
    operator.or_,
    (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names if name != "nested_scopes"),
)
_ASYNCHRONOUS: Final = CO_COROUTINE | CO_ASYNC_GENERATOR


class Codes:
    """The code of one module, plain and instrumented."""

    def __init__(
        self,
        source: bytes,
        filename: str,
        namespace: dict[str, Any],
        *,
        loader: object = None,
        like: CodeType | None = None,
        notes: bool = False,
        mutants: Mutants | None = None,
    ) -> None:
        """Compile `source`; `loader` is what imported the module, if it did more than compile; `like` is code of it, if
        it was compiled as what somebody types in is: it may await, and feel the imports from `__future__` before it.

        With `mutants`, the instrumented code has the guards of those, and the change that is made now.

        Raises SyntaxError if the source does not compile (any more).
        """
        self.source = source
        # Of the file when its source was read last: changes when it does.
        self.stamp: tuple[int, int] | None = None
        self.namespace = namespace
        flags = 0 if like is None else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | like.co_flags & _FUTURE
        tree = _tree(source, filename, loader)
        self.plain = compile(tree, filename, "exec", flags, dont_inherit=True)
        # IPython compiles statement by statement. That is not the same: what was imported is called in another way.
        alone = [] if like is None else [ast.Module([each], []) for each in tree.body]
        statements = [compile(each, filename, "exec", flags, dont_inherit=True) for each in alone]
        if mutants is not None:
            tree = mutants.mark(tree, filename)
        tree = rewrite(tree, notes=notes)
        with warnings.catch_warnings():
            # Helpers are constants until `_bind` puts functions in their place: "'str' object is not callable".
            warnings.simplefilter("ignore")
            compiled = compile(tree, filename, "exec", flags, dont_inherit=True)
        self._variables: dict[str, Variable] = {}
        self.filename = filename
        self._mutants = mutants
        self.module = self._bind(compiled)
        # How many functions are left alone.
        self.asynchronous = sum(
            bool(code.co_flags & _ASYNCHRONOUS) for code in _blocks(self.plain) if code is not self.plain
        )
        self._instrumented: dict[CodeType, CodeType] = {}
        # The same for code that functions were seen to hold, by its identity; and that code, so that it stays the one.
        self._seen: dict[int, tuple[CodeType, CodeType]] = {}
        # Instrumented code by identity, for the way back.
        self.plain_of: dict[int, tuple[CodeType, CodeType]] = {}
        # Names and lines of functions that run as they are, since the two codes don't fit.
        self.unfit: list[str] = []
        self._pair((self.plain,), self.module)
        self._pair(statements, self.module)

    def is_of(self, source: bytes, namespace: dict[str, Any]) -> bool:
        """Whether this is the code of that source, in that module."""
        return self.source == source and self.namespace is namespace

    def instrumented(self, code: CodeType) -> CodeType | None:
        """The instrumented code of a function's plain code; None if it is not of this module's source."""
        # To hash code and to compare it goes through all of its constants, so that is done once.
        seen = self._seen.get(id(code))
        if seen is not None:
            return seen[1]
        found = self._instrumented.get(code)
        if found is not None:
            self._seen[id(code)] = code, found
        return found

    def _bind(self, code: CodeType) -> CodeType:
        """Put what they stand for in place of the marked constants."""
        constants = tuple(
            self._bind(each) if isinstance(each, CodeType) else self._meaning(each) for each in code.co_consts
        )
        return code.replace(co_consts=constants)

    def _meaning(self, constant: object) -> object:
        if type(constant) is not str or not constant.startswith(MARK):
            return constant
        kind, _, name = constant[len(MARK) :].partition(":")
        if kind == "helper":
            return HELPERS[name]
        if kind == "attribute":
            return attribute_name(name)
        if kind == SITE and self._mutants is not None:
            return self._mutants.guard(self.filename, int(name))
        variable = self._variables.get(constant)
        if variable is None:
            variable = self._variables[constant] = Variable(name, self.namespace if kind == "global" else None)
        return variable

    def _pair(self, plain: Iterable[CodeType], instrumented: CodeType) -> None:
        """Map the plain code of each block inside of `plain`, one after the other, to its instrumented code."""
        mine = [each for code in plain for each in _inner(code)]
        theirs = [each for each in _inner(instrumented) if CAPTURE not in each.co_varnames[:1]]
        counted: dict[tuple[str, int, int], int] = {}
        keyed = {}
        for code in theirs:
            keyed[self._key(code, counted)] = code
        counted = {}
        for code in mine:
            other = keyed.get(self._key(code, counted))
            if other is None or not _fit(code, other):
                unfit = f"{code.co_name} (line {code.co_firstlineno})"
                if unfit not in self.unfit:
                    self.unfit.append(unfit)
                continue
            self._instrumented[code] = other
            self.plain_of[id(other)] = (other, code)
            self._pair((code,), other)

    @staticmethod
    def _key(code: CodeType, counted: dict[tuple[str, int, int], int]) -> tuple[str, int, int]:
        # Blocks of one name on one line come in the same order in both.
        count = counted.get((code.co_name, code.co_firstlineno, 0), 0)
        counted[code.co_name, code.co_firstlineno, 0] = count + 1
        return code.co_name, code.co_firstlineno, count


# Compiling is most of the price of an entry: kept for the next, as long as the source is the same. By file, with notes
# or without, and version: see `_mutants`.
CACHE: Final[dict[tuple[str, bool, object], Codes]] = {}


def forget(version: object) -> None:
    """Drop the codes of one version."""
    for key in [key for key in CACHE if key[2] == version]:
        del CACHE[key]


def _inner(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _fit(plain: CodeType, instrumented: CodeType) -> bool:
    """Whether a function can exchange one code for the other."""
    return (
        plain.co_freevars == instrumented.co_freevars
        and plain.co_flags & _OPTIMISED == instrumented.co_flags & _OPTIMISED
        and plain.co_varnames[: _arguments(plain)] == instrumented.co_varnames[: _arguments(instrumented)]
    )


def _arguments(code: CodeType) -> int:
    return code.co_argcount + code.co_kwonlyargcount


def _tree(source: bytes, filename: str, loader: object) -> ast.Module:
    tree = ast.parse(source, filename)
    hook = sys.modules.get("_pytest.assertion.rewrite")
    if hook is not None and isinstance(loader, hook.AssertionRewritingHook):
        hook.rewrite_asserts(tree, source, filename, loader.config)
    return tree


def _blocks(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside of it."""
    yield code
    for each in _inner(code):
        yield from _blocks(each)
