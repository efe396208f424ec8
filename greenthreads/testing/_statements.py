"""What the source says of two places that a thread came by: does what was read at the one decide what is done at the
other, and how?

An approximation, from the syntax alone: names that are assigned from what was read, in the order of the lines, and
conditions that a place stands under. It errs on both sides; who asks must have other evidence as well.
"""

from __future__ import annotations

import ast
import functools
import linecache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from greenthreads.testing._recorder import Place

__all__ = ["Statements"]

_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return)
_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


class _File:
    """The syntax of one file."""

    def __init__(self, source: str) -> None:
        try:
            self.tree: ast.Module | None = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            self.tree = None
        nodes = [] if self.tree is None else list(ast.walk(self.tree))
        self.functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.Lambda))]
        self.simple = [node for node in nodes if isinstance(node, _SIMPLE)]
        # The innermost statement on each line; of several on it, the last.
        self.by_line: dict[int, ast.stmt] = {}
        statements = [node for node in nodes if isinstance(node, ast.stmt)]
        for node in sorted(statements, key=_length, reverse=True):
            self.by_line.update(dict.fromkeys(range(node.lineno, _end(node) + 1), node))


# Whoever explores one test of a file explores others of it, too.
_parse = functools.lru_cache(maxsize=32)(_File)


class Statements:
    """Answers about the files of one execution."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def feeds(self, one: Sequence[Place], other: Sequence[Place], part: str | None = None) -> bool:
        """Whether a value that was read with the stack `one` goes into what is done with the stack `other`.

        If that is to store `part` (see `stores`), one statement does both only if it also reads that: several may be
        on the same line.
        """
        places = _where_they_part(one, other)
        if places is None:
            return False
        source, target = (self._statement(place) for place in places)
        if source is None or target is None:
            return False
        if source is target:
            if part is None or places != (one[0], other[0]) or isinstance(source, ast.AugAssign):
                return isinstance(source, _SIMPLE)
            return isinstance(source, _SIMPLE) and _mentions(source, part, ast.Load)
        return bool(self._names_from(*places) & _loaded(target))

    def decides(self, one: Sequence[Place], other: Sequence[Place], thing: str | None) -> bool:
        """Whether what was read with the stack `one` decides if the place of the stack `other` is reached.

        Conditions within an expression (`a and b`) count only if both are about the same `thing`, as the program calls
        it. Lines don't tell there what was read, so one that is a single name must be its.
        """
        places = _where_they_part(one, other)
        if places is None:
            return False
        read, act = places
        names = self._names_from(read, act)
        for test, first, last in self._conditions(act, thing):
            if first <= act[1] <= last and (_covers(test, read[1]) or _loaded(test) & names):
                return True
        return False

    def stores(self, place: Place, part: str) -> bool:
        """Whether the statement there assigns to the attribute `.part`, the variable `part`, or an item `[part]`."""
        statement = self._statement(place)
        return statement is not None and _mentions(statement, part, ast.Store)

    def _file(self, name: str) -> _File:
        if name not in self._files:
            self._files[name] = _parse("".join(linecache.getlines(name)))
        return self._files[name]

    def _statement(self, place: Place) -> ast.stmt | None:
        return self._file(place[0]).by_line.get(place[1])

    def _names_from(self, read: Place, act: Place) -> set[str]:
        """The variables that hold something made of what was read, when the other place is reached."""
        statement = self._statement(read)
        if statement is None or not isinstance(statement, _SIMPLE):
            return set()
        names = _stored(statement)
        between = [node for node in self._file(read[0]).simple if read[1] < node.lineno < act[1]]
        for node in sorted(between, key=lambda each: each.lineno):
            if _loaded(node) & names:
                names |= _stored(node)
        return names

    def _conditions(self, act: Place, thing: str | None) -> Iterator[tuple[ast.expr, int, int]]:
        """The conditions of the function that `act` is in: the test, and the lines that hang on it."""
        function = self._function(act)
        if function is None:
            return
        for node in ast.walk(function):
            if isinstance(node, (ast.If, ast.While)):
                # Who comes by here after a loop, or after a branch that leaves, has passed the test as well.
                goes_on = isinstance(node, ast.If) and not isinstance(node.body[-1], _LEAVES)
                yield node.test, node.body[0].lineno, _end(node if goes_on else function)
            elif isinstance(node, (ast.IfExp, ast.BoolOp)) and thing is not None:
                test = node.test if isinstance(node, ast.IfExp) else node.values[0]
                bare = test.operand if isinstance(test, ast.UnaryOp) else test
                if not isinstance(bare, (ast.Name, ast.Constant)) or getattr(bare, "id", None) == thing:
                    yield test, node.lineno, _end(node)

    def _function(self, place: Place) -> ast.AST | None:
        file = self._file(place[0])
        if place[2] == "<module>":
            return file.tree
        name = None if place[2] == "<lambda>" else place[2]
        found: ast.AST | None = None
        for node in file.functions:
            if getattr(node, "name", None) == name:
                if _covers(node, place[1]) and (found is None or _length(node) <= _length(found)):
                    found = node
        return found


def _where_they_part(one: Sequence[Place], other: Sequence[Place]) -> tuple[Place, Place] | None:
    """The places in the innermost call that both stacks have in common. None if it is not known.

    Stacks begin with the innermost call.
    """
    found: tuple[Place, Place] | None = None
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if (mine[0], mine[2]) != (theirs[0], theirs[2]):
            break
        found = mine, theirs
        if mine != theirs:
            break
    return found


def _mentions(statement: ast.stmt, part: str, how: type[ast.expr_context]) -> bool:
    for node in ast.walk(statement):
        if isinstance(getattr(node, "ctx", None), how):
            if isinstance(node, ast.Attribute) and part.startswith(".") and part.endswith(node.attr):
                return True
            if isinstance(node, ast.Subscript) and part.startswith("["):
                return True
            if isinstance(node, ast.Name) and node.id == part:
                return True
        elif isinstance(node, ast.Call) and part.startswith("[") and how is ast.Load:
            # `d.get(key)`
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "setdefault", "pop"):
                return True
    return False


def _covers(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", 0) <= line <= _end(node)


def _end(node: ast.AST) -> int:
    return getattr(node, "end_lineno", None) or getattr(node, "lineno", 0) or 1 << 60


def _length(node: ast.AST) -> int:
    return _end(node) - getattr(node, "lineno", 0)


def _loaded(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _stored(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
