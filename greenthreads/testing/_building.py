"""How the rewriter makes nodes, and what it knows of names: what its chapters have in common.

`_rewrite` says what is rewritten into what.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Final, TypeVar

from greenthreads.testing._scopes import analyse, mangle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CAPTURE", "MARK", "OF_CONTAINERS", "OPERATORS", "Builder", "is_number", "is_of_pytest", "rebinds", "unshared",
]  # fmt: skip

# What the constants begin with that `_codes` replaces: MARK + kind + ":" + name.
MARK: Final = "\0greenthreads:"
# The parameter that tells the closures made here from those of the program.
CAPTURE: Final = "@capture"

OPERATORS: Final = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.LShift: "lshift", ast.RShift: "rshift", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.BitAnd: "and_", ast.MatMult: "matmul",
}  # fmt: skip
# The operators that some container has.
OF_CONTAINERS: Final = frozenset({ast.Add, ast.Sub, ast.Mult, ast.Mod, ast.BitOr, ast.BitXor, ast.BitAnd})

_Node = TypeVar("_Node", bound=ast.AST)


def unshared(node: _Node) -> _Node:
    """The same tree of other nodes, each in one place. (pytest's assertions have the same node in several.)"""
    fresh = copy.copy(node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            setattr(fresh, name, unshared(value))
        elif isinstance(value, list):
            setattr(fresh, name, [unshared(each) if isinstance(each, ast.AST) else each for each in value])
    return fresh


class Builder(ast.NodeTransformer):
    """Makes nodes in the scope that is being visited."""

    def __init__(self, tree: ast.Module, notes: bool) -> None:
        self.scopes = analyse(tree)
        self.scope = self.scopes[tree]
        self.notes = notes
        # Of the function that is being visited.
        self.private: frozenset[str] = frozenset()

    # Building nodes

    def helper(self, name: str, *args: ast.expr, at: ast.AST) -> ast.Call:
        """A call of a helper, at the place in the source of `at`."""
        return self.at(at, ast.Call(self.constant("helper", name, at), list(args), []))

    def constant(self, kind: str, name: str, at: ast.AST) -> ast.Constant:
        return self.at(at, ast.Constant(f"{MARK}{kind}:{name}"))

    def at(self, place: ast.AST, node: _Node) -> _Node:
        for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            if hasattr(place, name):
                setattr(node, name, getattr(place, name))
        return node

    def attribute(self, name: str, at: ast.AST) -> ast.Constant:
        return self.constant("attribute", mangle(name, self.scope.class_name), at)

    def load(self, name: str, at: ast.AST) -> ast.Name:
        return self.at(at, ast.Name(name, ast.Load()))

    def noted(self, node: ast.expr) -> ast.expr:
        return self.helper("noted", node, at=node) if self.notes else node

    def spread(self, function: str, helper: str, *args: ast.expr, at: ast.AST) -> ast.Call:
        """`function(*helper(...))`: a function of C, called with what the helper returns."""
        call = self.helper(function, at=at)
        call.args = [self.at(at, ast.Starred(self.helper(helper, *args, at=at), ast.Load()))]
        return call

    def expressions(self, nodes: Iterable[ast.expr]) -> list[ast.expr]:
        return [self.visit(node) for node in nodes]

    # Variables

    def is_shared(self, name: str) -> bool:
        return self.scope.is_shared(mangle(name, self.scope.class_name))

    def variable(self, name: str, at: ast.AST) -> tuple[ast.expr, ast.expr]:
        """What names a shared variable to the helpers: its Variable, and the closure over it (None for a global)."""
        mangled = mangle(name, self.scope.class_name)
        if self.scope.owner(mangled).parent is None:
            return self.constant("global", mangled, at), self.at(at, ast.Constant(None))
        capture = ast.arg(CAPTURE)
        self.at(at, capture)
        args = ast.arguments(posonlyargs=[], args=[capture], kwonlyargs=[], kw_defaults=[], defaults=[])
        return self.constant("cell", mangled, at), self.at(at, ast.Lambda(args, self.load(name, at)))

    def shared_names(self, targets: Iterable[ast.expr]) -> list[ast.Name]:
        """The shared variables among targets, those inside of tuples included, in the order in which they are set."""
        found: list[ast.Name] = []
        for target in targets:
            if isinstance(target, ast.Name) and self.is_shared(target.id):
                found.append(target)
            elif isinstance(target, ast.Starred):
                found += self.shared_names([target.value])
            elif isinstance(target, (ast.Tuple, ast.List)):
                found += self.shared_names(target.elts)
        return found

    def stored(self, value: ast.expr, names: Sequence[ast.Name]) -> ast.expr:
        """`value`, about to be stored to these shared variables."""
        if not names:
            return value
        pairs = [each for name in names for each in self.variable(name.id, name)]
        return self.helper("write_variables", value, *pairs, at=value)

    def is_private(self, node: ast.expr) -> bool:
        """Whether `node` is a variable that holds a container of the function's own."""
        return isinstance(node, ast.Name) and node.id in self.private

    def is_stable(self, node: ast.expr, *others: ast.expr) -> bool:
        """Whether evaluating `node` twice is evaluating it once: a constant, or a local that nobody else can rebind."""
        if isinstance(node, ast.Constant):
            return True
        if not isinstance(node, ast.Name) or self.scope.kind != "function":
            return False
        name = mangle(node.id, self.scope.class_name)
        return (
            self.scope.owner(name) is self.scope
            and not self.scope.is_shared(name)
            and not any(rebinds(each, node.id) for each in others)
        )


def is_number(node: ast.expr) -> bool:
    """Whether `node` is a number that stands in the source."""
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex))


def is_of_pytest(node: ast.expr) -> bool:
    """Whether `node` is one of pytest's own names, in a test module that it has rewritten."""
    return isinstance(node, ast.Name) and node.id.startswith("@py")


def rebinds(node: ast.expr, name: str) -> bool:
    """Whether `node`, evaluated, sets the variable `name`."""
    return any(isinstance(each, ast.NamedExpr) and each.target.id == name for each in ast.walk(node))
