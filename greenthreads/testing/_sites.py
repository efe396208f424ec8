"""Where a module synchronises its threads, and how each place can be changed for the worse: in the syntax tree.

A place is a `with` whose context manager may be a lock, an `acquire` with its `release`, a loop around `wait`, a call
of `wait_for`, `notify` or `notify_all`. Names tell nothing of types, so each place gets a *guard*: a call that looks,
when the program runs, at what is there.

    with self.lock:             with guard(self.lock):
    self.lock.acquire()         guard(self.lock.acquire)()

The guard notes that the place was reached, and whether by a lock; where a lock is to be removed, it hands out one that
keeps nobody out. So a file is never taken for a lock, and one change serves all spellings. What can't be done by a
guard is done to the tree, for one place at a time: statements that leave a lock's body, `if` for `while`.

Places are numbered in the order of the source, the same whenever that is compiled.
"""

from __future__ import annotations

import ast
import builtins
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from greenthreads.testing._building import MARK
from greenthreads.testing._scopes import analyse, mangle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SITE", "Change", "Place", "Site", "find", "mark"]

# The kind of the constants that stand for guards, see `_codes`.
SITE: Final = "site"

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# What the value of a `with` is kept under that is narrowed to the test of the `if` in it.
_TEST: Final = "@test"
_LONGEST: Final = 44


class Site(NamedTuple):
    """One place: `kind` is "with", "pair", "loop", "wait_for", "notify" or "notify_all"."""

    filename: str
    number: int
    line: int
    kind: str
    # What is there, as in the source.
    text: str


class Change(NamedTuple):
    """What can be done to a site: `how` for the code here, `text` for people."""

    how: str
    text: str


class Place(NamedTuple):
    """A site in one syntax tree: the nodes that are guarded, what is around them, and the changes there are."""

    site: Site
    guarded: list[ast.withitem | ast.Call]
    statement: ast.stmt | None
    changes: list[Change]
    # Of a body under a lock: what is before `first` leaves it at the front, what is from `last` on at the end.
    first: int = 0
    last: int = 0


def find(tree: ast.Module, filename: str) -> list[Place]:
    """All places of a module, in the order of the source."""
    finder = _Finder(tree, filename)
    finder.visit(tree)
    found = sorted(finder.found, key=lambda each: each[0])
    return [
        place._replace(site=place.site._replace(number=number)) for number, (_position, place) in enumerate(found)
    ]


def mark(tree: ast.Module, places: list[Place], site: Site | None = None, how: str = "") -> ast.Module:
    """Put the guards in, and make the change `how` at `site`, if it is one of the tree. In place."""
    for place in places:
        for node in place.guarded:
            if isinstance(node, ast.withitem):
                node.context_expr = _guard(node.context_expr, place.site)
            else:
                node.func = _guard(node.func, place.site)
    for place in places:
        if place.site == site and place.statement is not None and how in _IN_THE_TREE:
            _replace(tree, place.statement, _IN_THE_TREE[how](place))
    return tree


def _guard(node: ast.expr, site: Site) -> ast.Call:
    constant = ast.copy_location(ast.Constant(f"{MARK}{SITE}:{site.number}"), node)
    return ast.copy_location(ast.Call(constant, [node], []), node)


# Changes of the tree: each returns what stands in place of the statement.


def _with_of(place: Place) -> tuple[ast.With, ast.withitem]:
    # Only the innermost lock of `with a, b:` is narrowed: to leave `a` is to leave `b` as well.
    (item,) = place.guarded
    assert isinstance(place.statement, ast.With)
    assert isinstance(item, ast.withitem)
    return place.statement, item


def _rebuilt(
    statement: ast.With, before: list[ast.stmt], body: list[ast.stmt], after: list[ast.stmt]
) -> list[ast.stmt]:
    """`statement` with `body` in its last item, and the rest around that, in its other items."""
    *others, last = statement.items
    inner = ast.copy_location(ast.With([last], body), statement)
    if not others:
        return [*before, inner, *after]
    return [ast.copy_location(ast.With(others, [*before, inner, *after]), statement)]


def _first_out(place: Place) -> list[ast.stmt]:
    if isinstance(place.statement, ast.With):
        body = place.statement.body
        return _rebuilt(place.statement, body[: place.first], body[place.first :], [])
    acquire, section = _section(place)
    before, section.body = section.body[: place.first], section.body[place.first :]
    return [*before, acquire, section]


def _last_out(place: Place) -> list[ast.stmt]:
    if isinstance(place.statement, ast.With):
        body = place.statement.body
        return _rebuilt(place.statement, [], body[: place.last], body[place.last :])
    acquire, section = _section(place)
    section.body, after = section.body[: place.last], section.body[place.last :]
    return [acquire, section, *after]


def _body_out(place: Place) -> list[ast.stmt]:
    statement, _item = _with_of(place)
    decision, *after = statement.body[place.last :]
    assert isinstance(decision, ast.If)
    keep = ast.copy_location(ast.Assign([ast.Name(_TEST, ast.Store())], decision.test), decision)
    decision.test = ast.Name(_TEST, ast.Load())
    for node in (keep.targets[0], decision.test):
        ast.copy_location(node, keep.value)
    return _rebuilt(statement, [], [*statement.body[: place.last], keep], [decision, *after])


def _section(place: Place) -> tuple[ast.stmt, ast.Try]:
    section = place.statement
    assert isinstance(section, ast.Try)
    return ast.copy_location(ast.Expr(place.guarded[0]), section), section  # type: ignore[arg-type]


def _if_for_while(place: Place) -> list[ast.stmt]:
    loop = place.statement
    assert isinstance(loop, ast.While)
    return [ast.copy_location(ast.If(loop.test, loop.body, []), loop)]


_IN_THE_TREE: Final = {
    "first out": _first_out, "last out": _last_out, "body out": _body_out, "if for while": _if_for_while
}  # fmt: skip


def _replace(tree: ast.Module, old: ast.stmt, new: list[ast.stmt]) -> None:
    for node in ast.walk(tree):
        for _name, value in ast.iter_fields(node):
            if isinstance(value, list) and any(each is old for each in value):
                index = next(index for index, each in enumerate(value) if each is old)
                # A section of acquire and try is two statements.
                start = index - 1 if isinstance(old, ast.Try) else index
                value[start : index + 1] = new
                return


# The search

class _Finder(ast.NodeVisitor):
    def __init__(self, tree: ast.Module, filename: str) -> None:
        self.filename = filename
        self.scopes = analyse(tree)
        self.scope = self.scopes[tree]
        # With where they begin: line and column.
        self.found: list[tuple[tuple[int, int], Place]] = []
        # Calls of `acquire` and `release` by the text of whose they are: of the function or class that is looked at.
        self.calls: dict[str, tuple[list[ast.Call], list[ast.Call]]] = {}

    def add(
        self, at: ast.expr, kind: str, text: str, guarded: list[ast.withitem | ast.Call], changes: list[Change],
        statement: ast.stmt | None = None, leaves: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        site = Site(self.filename, 0, at.lineno, kind, text)
        self.found.append(((at.lineno, at.col_offset), Place(site, guarded, statement, changes, *leaves)))

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.Lambda) -> None:
        outer, self.calls = self.calls, {}
        self._inside(node)
        inner, self.calls = self.calls, outer
        for text, (acquires, releases) in self._paired(inner):
            # Half a pair may have its other half in another method of the class.
            mine = outer.setdefault(text, ([], []))
            mine[0].extend(acquires)
            mine[1].extend(releases)

    visit_Lambda = visit_FunctionDef

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Left alone, as by the instrumentation."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self.calls = self.calls, {}
        self._inside(node)
        list(self._paired(self.calls))
        self.calls = outer

    def _inside(self, node: ast.FunctionDef | ast.Lambda | ast.ClassDef) -> None:
        outer, self.scope = self.scope, self.scopes[node]
        self.generic_visit(node)
        self.scope = outer

    def _paired(
        self, calls: dict[str, tuple[list[ast.Call], list[ast.Call]]]
    ) -> Iterator[tuple[str, tuple[list[ast.Call], list[ast.Call]]]]:
        """Enter the pairs, and yield what has remained alone."""
        for text, (acquires, releases) in calls.items():
            if acquires and releases:
                change = Change("removed", f"without `{text}.acquire()` and its `release()`")
                self.add(acquires[0], "pair", text, [*acquires, *releases], [change])
            else:
                yield text, (acquires, releases)

    # Locks

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            text = _text(item.context_expr)
            changes = [Change("removed", f"without `{text}`")]
            leaves = (0, 0)
            if item is node.items[-1] and item.optional_vars is None:
                narrowings, leaves = self._narrowings(node.body, text)
                changes += narrowings
            self.add(item.context_expr, "with", text, [item], changes, node, leaves)
        self._statements(node)

    def _narrowings(self, body: list[ast.stmt], text: str) -> tuple[list[Change], tuple[int, int]]:
        """The first or the last statement that touches anything leaves, with those that touch nothing beyond it."""
        touching = [index for index, statement in enumerate(body) if self._touches(statement)]
        if not touching:
            return [], (0, 0)
        first, last = touching[0], touching[-1]
        changes = []
        if first < last:
            changes.append(Change("first out", f"`{_text(body[first])}` before `{text}`"))
            changes.append(Change("last out", f"`{_text(body[last])}` after `{text}`"))
        decision = body[last]
        if self.scope.kind == "function" and isinstance(decision, ast.If) and self._touches(decision.test):
            if any(map(self._touches, (*decision.body, *decision.orelse))):
                changes.append(Change("body out", f"only the test of `{_text(decision)}` under `{text}`"))
        return changes, (first + 1, last)

    def _touches(self, node: ast.AST) -> bool:
        """Whether it makes a difference on which side of a lock a statement is: that something is touched by it.

        Locals that no other function sees, and constants, are nobody else's. Nor is an exception that is raised.
        """
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        for each in ast.walk(node):
            if isinstance(each, (ast.Attribute, ast.Subscript, ast.Yield, ast.YieldFrom, ast.With, ast.For)):
                return True
            if isinstance(each, ast.Call) and not _makes_an_exception(each):
                return True
            if isinstance(each, ast.Name) and self.scope.is_shared(mangle(each.id, self.scope.class_name)):
                return True
        return False

    def _statements(self, node: ast.AST) -> None:
        """Visit what is inside, with an eye on each `acquire` that has a `try` right behind it."""
        for _name, value in ast.iter_fields(node):
            if isinstance(value, list):
                for before, after in itertools.pairwise(value):
                    self._section(before, after)
        super().generic_visit(node)

    generic_visit = _statements

    def _section(self, before: object, after: object) -> None:
        if not isinstance(before, ast.Expr) or not isinstance(after, ast.Try):
            return
        acquire = _call(before.value, "acquire")
        if acquire is None:
            return
        text = _receiver(acquire)
        for each in after.finalbody:
            release = _call(each.value, "release") if isinstance(each, ast.Expr) else None
            if release is not None and _receiver(release) == text:
                changes = [Change("removed", f"without `{text}.acquire()` and its `release()`")]
                leaves = (0, 0)
                if not after.handlers and not after.orelse:
                    narrowings, leaves = self._narrowings(after.body, text)
                    changes += [change for change in narrowings if change.how != "body out"]
                self.add(acquire, "pair", text, [acquire, release], changes, after, leaves)
                acquire.paired = release.paired = True  # type: ignore[attr-defined]

    # Calls

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute) or getattr(node, "paired", False):
            return
        name, text = node.func.attr, _text(node.func.value)
        if name in ("acquire", "release"):
            self.calls.setdefault(text, ([], []))[name == "release"].append(node)
        elif name == "wait_for":
            self.add(node, name, text, [node], [Change("looks once", f"`{text}.wait_for()` looks once")])
        elif name in ("notify", "notify_all"):
            changes = [Change("removed", f"without `{text}.{name}()`")]
            if name == "notify_all":
                changes.append(Change("one", f"`{text}.notify()` for `notify_all()`"))
            self.add(node, name, text, [node], changes)

    def visit_While(self, node: ast.While) -> None:
        calls = [_call(each.value, "wait") for each in node.body if isinstance(each, ast.Expr)]
        waits = [call for call in calls if call is not None]
        if len(waits) == 1 and not node.orelse and not _is_left(node.body):
            text = _receiver(waits[0])
            change = Change("if for while", f"`if` for `while {_text(node.test)}` around `{text}.wait()`")
            self.add(node.test, "loop", text, [waits[0]], [change], node)
        self.generic_visit(node)


def _call(node: ast.expr, name: str) -> ast.Call | None:
    """`node`, if it is a call of a method of that name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
        return node
    return None


def _receiver(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Attribute)
    return _text(node.func.value)


def _makes_an_exception(node: ast.Call) -> bool:
    kind = getattr(builtins, node.func.id, None) if isinstance(node.func, ast.Name) else None
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _is_left(body: Iterable[ast.AST]) -> bool:
    """Whether a loop's body has a `break` or `continue` of its own: then it is no mere wait."""
    for each in body:
        if isinstance(each, (ast.Break, ast.Continue)):
            return True
        if isinstance(each, (*_FUNCTIONS, ast.ClassDef, ast.For, ast.While)):
            continue
        if _is_left(ast.iter_child_nodes(each)):
            return True
    return False


def _text(node: ast.AST) -> str:
    """The source of a node, on one line: of a compound statement its head."""
    text = ast.unparse(node).partition("\n")[0]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
