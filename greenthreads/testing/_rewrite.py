"""Rewrites a module's syntax tree so that each access to memory that threads may share is announced before it happens.

    count += 1              count = write_variables(iadd(count if read_global(COUNT) else count, 1), COUNT, None)
    self.n                  read_attribute(self, N).n
    self.items.append(x)    call(read_attribute(read_attribute(self, ITEMS).items, APPEND).append, x)()
    if key not in table:    if not contains(*contains_item(key, table)):

What holds for each form:

- The parts are evaluated in the plain code's order, once each, by the plain code's scope.
- The access itself is done by instructions at the plain code's place in the source, so exceptions carry the same lines
  and columns; see `_accesses` for why no other frame shows.
- No name is added to a scope that the program can look at. Helpers are constants of the code (strings here, replaced
  by `_codes` once the tree is compiled), not names: a class body may run in any mapping. An augmented assignment to a
  place that takes more than names to write needs temporaries: in functions alone, and deleted when it is done.
- The free variables of each function are those of the plain one, in the same order, so that either code fits a
  function that is there already. A closure variable's cell is had from a closure over it, made on the spot:
  `(lambda: x).__closure__[0]`.

Left alone: `async` functions and what is inside of them, annotations, and the names bound by `import`, `except` and
`def`.

Three chapters: `_places` rewrites what reads and sets, `_operations` what calls and computes, this one statements and
scopes. They make nodes by `_building`.
"""

from __future__ import annotations

import ast
import sys
from typing import Final, cast

from greenthreads.testing._building import is_of_pytest, unshared
from greenthreads.testing._operations import Operations
from greenthreads.testing._places import Places
from greenthreads.testing._private import private_names

__all__ = ["rewrite"]

# Where an iterable refuses to be iterated: before 3.13 that is said of the whole loop.
_ITER_AT_ITERABLE: Final = sys.version_info >= (3, 13)
# And since 3.15 a generator expression makes its first iterator itself, so that the error is said to be of all of it.
_ITER_IN_GENERATOR: Final = sys.version_info >= (3, 15)


def rewrite(tree: ast.Module, *, notes: bool = False) -> ast.Module:
    """Instrument a tree, in place. With `notes`, the values of reads and writes are told as well."""
    tree = unshared(tree)
    return cast("ast.Module", _Rewriter(tree, notes).visit(tree))


class _Rewriter(Places, Operations):
    """Statements, loops and scopes; the rest of it is in its bases."""

    def visit_If(self, node: ast.If | ast.While) -> ast.stmt:
        plain = node.test
        explains = _explains_a_failure(node)
        node.test = self.truth(plain, self.visit(plain))
        if not explains:
            node.body = self.block(node.body)
        node.orelse = self.block(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.stmt | list[ast.stmt]:
        says = self.scope.kind == "function" and not _yields(node)
        statement = self.visit_If(node)
        if not says:
            return statement
        name = self.at(node, ast.Constant(f"{node.lineno}:{node.col_offset}"))
        begins = self.at(node, ast.Expr(self.helper("loop_begins", name, at=node.test)))
        again = self.helper("next_round", name, at=node.test)
        node.test = self.at(node.test, ast.BoolOp(ast.And(), [again, node.test]))
        return [begins, node]

    # Iteration

    def iterated(self, iterable: ast.expr, loop: ast.AST, *, inside: bool = False) -> ast.expr:
        """`iterable`, visited, with an announcement before each step; `inside`: the loop itself makes the iterator."""
        if self.is_private(iterable):
            return iterable
        at = iterable if _ITER_AT_ITERABLE and not inside else loop
        iterator = self.helper("iter", self.helper("before_iter", iterable, at=iterable), at=at)
        return self.helper("steps", iterator, at=iterable)

    def visit_For(self, node: ast.For) -> ast.stmt:
        node.iter = self.iterated(self.visit(node.iter), node)
        names = self.shared_names([node.target])
        tuple_target = isinstance(node.target, (ast.Tuple, ast.List))
        if names:
            pairs = [each for name in names for each in self.variable(name.id, name)]
            node.iter = self.helper("stores", node.iter, *pairs, at=node.iter)
        elif tuple_target:
            node.iter = self.helper("unpacked", node.iter, at=node.iter)
        node.target = self.visit(node.target)
        node.body = self.block(node.body)
        node.orelse = self.block(node.orelse)
        return node

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.expr:
        if any(generator.is_async for generator in node.generators):
            return node
        first = node.generators[0]
        inside = _ITER_IN_GENERATOR and isinstance(node, ast.GeneratorExp)
        first.iter = self.iterated(self.visit(first.iter), node, inside=inside)
        outer, self.scope = self.scope, self.scopes[node]
        for number, generator in enumerate(node.generators):
            if number:
                generator.iter = self.iterated(self.visit(generator.iter), node)
            generator.target = self.visit(generator.target)
            generator.ifs = [self.truth(each, self.visit(each)) for each in generator.ifs]
        if isinstance(node, ast.DictComp):
            node.key = self.visit(node.key)
            node.value = self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self.scope = outer
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.expr:
        # Not by `steps`: what is delegated to gets `send` and `throw` as well.
        node.value = self.helper("whole", self.visit(node.value), at=node.value)
        return node

    # Statements that store by themselves

    def visit_With(self, node: ast.With) -> ast.stmt:
        outermost: list[ast.stmt] = []
        for number, item in enumerate(node.items):
            item.context_expr = self.visit(item.context_expr)
            target = item.optional_vars
            if target is None:
                continue
            names = self.shared_names([target])
            if names and number == len(node.items) - 1 and self.scope.kind == "function":
                # The store becomes the first statement of the body: inside of what `__exit__` answers for, as before.
                temporary = self.at(target, ast.Name("@entered", ast.Store()))
                value = self.stored(self.load("@entered", target), names)
                store = self.at(target, ast.Assign([self.visit(target)], value))
                outermost.append(self.without("@entered", [store], target))
                item.optional_vars = temporary
            else:
                item.optional_vars = self.visit(target)
        node.body = outermost + self.block(node.body)
        return node

    def visit_Match(self, node: ast.Match) -> ast.stmt:
        names: dict[str, None] = {}
        for case in node.cases:
            for pattern in ast.walk(case.pattern):
                if isinstance(pattern, ast.MatchClass):
                    names.update(dict.fromkeys(pattern.kwd_attrs))
        attributes = [self.attribute(name, node.subject) for name in names]
        node.subject = self.helper("matched", self.visit(node.subject), *attributes, at=node.subject)
        for case in node.cases:
            if case.guard is not None:
                plain = case.guard
                case.guard = self.truth(plain, self.visit(plain))
            case.body = self.block(case.body)
        return node

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for statement in body:
            new = self.visit(statement)
            statements.extend(new if isinstance(new, list) else [new])
        return statements

    # Scopes

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = self.block(node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.decorator_list = self.expressions(node.decorator_list)
        self.defaults(node.args)
        outer, self.scope = self.scope, self.scopes[node]
        private, self.private = self.private, private_names(node, self.scope)
        node.body = self.block(node.body)
        self.scope, self.private = outer, private
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        self.defaults(node.args)
        outer, self.scope = self.scope, self.scopes[node]
        private, self.private = self.private, frozenset()
        node.body = self.visit(node.body)
        self.scope, self.private = outer, private
        return node

    def defaults(self, args: ast.arguments) -> None:
        args.defaults = self.expressions(args.defaults)
        args.kw_defaults = [None if each is None else self.visit(each) for each in args.kw_defaults]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.decorator_list = self.expressions(node.decorator_list)
        node.bases = self.expressions(node.bases)
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        outer, self.scope = self.scope, self.scopes[node]
        private, self.private = self.private, frozenset()
        node.body = self.block(node.body)
        self.scope, self.private = outer, private
        return node

    def left_alone(self, node: ast.AST) -> ast.AST:
        return node

    visit_TypeAlias = visit_Global = visit_Nonlocal = visit_Import = visit_ImportFrom = left_alone


def _yields(node: ast.AST) -> bool:
    """Whether others may go on in the middle of it, who iterate: its beginning tells nothing of what they are at."""
    return any(isinstance(each, (ast.Yield, ast.YieldFrom, ast.Await)) for each in ast.walk(node))


def _explains_a_failure(node: ast.If | ast.While) -> bool:
    """Whether this is where an assertion that pytest has rewritten has failed, and its message is made.

    That is over before others run: it is no part of the program, and a trace ends where the program has failed.
    """
    test = node.test
    return isinstance(test, ast.UnaryOp) and is_of_pytest(test.operand) and isinstance(node.body[-1], ast.Raise)
