"""Which variables of a module threads may share.

Python's scoping rules, from the syntax tree. The standard `symtable` reads source text, and a test module's tree is not
that of its text once pytest has rewritten its assertions.

Shared are globals, and the locals of a function that an inner function captures. A comprehension is no inner function
here: it runs where it stands.

What is bound once and for all needs no announcement: a parameter that nobody assigns to, a function, a class or a
module that is defined once.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from typing import Final

__all__ = ["Scope", "analyse", "mangle"]

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

# How a name may be bound and still be constant.
_DEFINITIONS: Final = frozenset({"definition", "import"})


class Scope:
    """One block: a module, a class, a function or a comprehension, and the names bound and used in it."""

    def __init__(self, kind: str, parent: Scope | None, class_name: str | None) -> None:
        self.kind = kind
        self.parent = parent
        self.class_name = class_name
        self.bound: defaultdict[str, set[str]] = defaultdict(set)
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.used: set[str] = set()
        # Of a function: its locals that an inner function, or a class in it, uses.
        self.captured: set[str] = set()
        # Of the module: `from x import *` may have bound any name.
        self.star = False
        self.children: list[Scope] = []
        if parent is not None:
            parent.children.append(self)

    @property
    def module(self) -> Scope:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def block(self) -> Scope:
        """The scope that statements are in: this one, or the one around a comprehension."""
        scope = self
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        return scope

    def owner(self, name: str) -> Scope:
        """The scope whose variable a name is, used here: the module for globals and built-ins."""
        if name in self.globals or self.parent is None:
            return self.module
        if name in self.bound and name not in self.nonlocals:
            return self
        scope: Scope | None = self.parent
        while scope is not None and scope.parent is not None:
            if scope.kind != "class":
                if name in scope.globals:
                    return self.module
                if name in scope.bound and name not in scope.nonlocals:
                    return scope
            scope = scope.parent
        return self.module

    def is_shared(self, name: str) -> bool:
        """Whether reading a name here is an access that other threads' may conflict with."""
        if name.startswith("@"):
            return False  # a temporary, or pytest's own
        owner = self.owner(name)
        if owner.kind == "class":
            return False
        if owner.parent is None:
            return _is_variable_global(owner, name)
        return name in owner.captured and owner.bound[name] != {"parameter"} and not owner.bound[name] <= _DEFINITIONS


def _is_variable_global(module: Scope, name: str) -> bool:
    if name.startswith("__"):
        return False
    if name not in module.bound:
        return not hasattr(builtins, name)
    return not module.bound[name] <= _DEFINITIONS


def mangle(name: str, class_name: str | None) -> str:
    """A name as the compiler spells it inside of a class."""
    if class_name is None or not name.startswith("__") or name.endswith("__") or "." in name:
        return name
    stripped = class_name.lstrip("_")
    return f"_{stripped}{name}" if stripped else name


def analyse(tree: ast.Module) -> dict[ast.AST, Scope]:
    """The scope of each node that opens one."""
    builder = _Builder()
    module = builder.open(tree, "module")
    builder.visit_all(tree.body)
    _resolve(module)
    return builder.scopes


def _resolve(scope: Scope) -> None:
    for name in scope.nonlocals | scope.globals:
        if scope.bound.get(name):
            # Bound from further inside: no constant.
            (scope.module if name in scope.globals else scope.owner(name)).bound[name].add("assignment")
    for name in scope.used | scope.nonlocals:
        owner = scope.owner(name)
        if owner is not scope and owner.parent is not None and owner.block is not scope.block and _inner(scope, owner):
            owner.captured.add(name)
    for child in scope.children:
        _resolve(child)


def _inner(scope: Scope, owner: Scope) -> bool:
    # Whether a function stands between: a class body runs where it is.
    between: Scope | None = scope
    while between is not None and between is not owner:
        if between.kind == "function":
            return True
        between = between.parent
    return False


class _Builder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.scopes: dict[ast.AST, Scope] = {}
        self.scope: Scope = None  # type: ignore[assignment]
        self.class_name: str | None = None

    def open(self, node: ast.AST, kind: str) -> Scope:
        self.scope = self.scopes[node] = Scope(kind, self.scope, self.class_name)
        return self.scope

    def close(self) -> None:
        assert self.scope.parent is not None
        self.scope = self.scope.parent

    def visit_all(self, nodes: list[ast.AST] | list[ast.stmt] | list[ast.expr] | list[ast.keyword]) -> None:
        for node in nodes:
            self.visit(node)

    def bind(self, name: str, how: str) -> None:
        name = mangle(name, self.class_name)
        # Also where it is declared global: `_resolve` passes it on.
        self.scope.bound[name].add(how)

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit_all(node.decorator_list)
        self._defaults(node.args)
        self.bind(node.name, "definition")
        self._type_parameters(node)
        self._function(node, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self._function(node, [node.body])

    def _type_parameters(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        # 3.12 and newer. They have a scope of their own, around; here it is enough that they are constant.
        for each in getattr(node, "type_params", ()):
            self.bind(each.name, "definition")

    def _defaults(self, args: ast.arguments) -> None:
        self.visit_all([each for each in (*args.defaults, *args.kw_defaults) if each is not None])

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, body: list[ast.stmt] | list[ast.expr]
    ) -> None:
        self.open(node, "function")
        args = node.args
        for arg in (*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg):
            if arg is not None:
                self.bind(arg.arg, "parameter")
        self.visit_all(body)
        self.close()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all(node.decorator_list)
        self.visit_all(node.bases)
        self.visit_all(node.keywords)
        self.bind(node.name, "definition")
        self._type_parameters(node)
        outer, self.class_name = self.class_name, node.name
        self.open(node, "class")
        self.visit_all(node.body)
        self.close()
        self.class_name = outer

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        self.open(node, "comprehension")
        for number, generator in enumerate(node.generators):
            self.visit(generator.target)
            if number:
                self.visit(generator.iter)
            self.visit_all(generator.ifs)
        if isinstance(node, ast.DictComp):
            self.visit(node.key)
            self.visit(node.value)
        else:
            self.visit(node.elt)
        self.close()

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.scope.used.add(mangle(node.id, self.class_name))
        else:
            self.bind(node.id, "assignment")

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        name = mangle(node.target.id, self.class_name)
        block = self.scope.block
        block.bound[name].add("assignment")
        if self.scope is not block:
            self.scope.used.add(name)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.scope.used.add(mangle(node.target.id, self.class_name))
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        # An annotation without a value binds as well, and may stay unevaluated.
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.globals.update(mangle(name, self.class_name) for name in node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocals.update(mangle(name, self.class_name) for name in node.names)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.scope.module.star = True
            else:
                self.bind(alias.asname or alias.name.partition(".")[0], "import")

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self.bind(node.name, "assignment")
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name is not None:
            self.bind(node.name, "assignment")
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self.bind(node.name, "assignment")

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self.bind(node.rest, "assignment")
        self.generic_visit(node)
