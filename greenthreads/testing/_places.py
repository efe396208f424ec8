"""Rewrites what reads and sets places: variables, attributes, items; assignments of every kind, `del`."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING

from greenthreads.testing._building import OF_CONTAINERS, OPERATORS, Builder, is_number, is_of_pytest, rebinds
from greenthreads.testing._scopes import mangle

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Places"]


class Places(Builder):
    """The part of the rewriter that reads and sets."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or not self.is_shared(node.id):
            return node
        variable, capture = self.variable(node.id, node)
        if isinstance(capture, ast.Constant):
            test = self.helper("read_global", variable, at=node)
        else:
            test = self.helper("read_cell", capture, variable, at=node)
        # The same name in both branches: the helper is always true.
        return self.noted(self.at(node, ast.IfExp(test, node, self.load(node.id, node))))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if is_of_pytest(node.value):
            return node
        helper = "read_attribute" if isinstance(node.ctx, ast.Load) else "write_attribute"
        node.value = self.helper(helper, self.visit(node.value), self.attribute(node.attr, node), at=node.value)
        return self.noted(node) if helper == "read_attribute" else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if self.is_private(node.value):
            node.slice = self.visit(node.slice)
            return node
        value, key = self.visit(node.value), self.visit(node.slice)
        if isinstance(node.ctx, ast.Load):
            if isinstance(key, ast.Tuple) and any(isinstance(each, ast.Starred) for each in key.elts):
                key = self.at(key, ast.Tuple(key.elts, ast.Load()))
            if self.is_stable(node.value, node.slice):
                node.slice = self.helper("read_key", copy.deepcopy(value), key, at=node.slice)
                return self.noted(node)
            return self.noted(self.spread("getitem", "read_item", value, key, at=node))
        if self.is_stable(node.value, node.slice):
            node.slice = self.helper("write_key", copy.deepcopy(value), key, at=node.slice)
            return node
        return self.at(node, ast.Attribute(self.helper("write_item", value, key, at=node), "value", node.ctx))

    def visit_Slice(self, node: ast.Slice) -> ast.expr:
        # As an argument a slice is a call of `slice`, at the place of its first part.
        parts = [self.at(node, ast.Constant(None)) if each is None else self.visit(each)
                 for each in (node.lower, node.upper, node.step)]  # fmt: skip
        return self.helper("slice", *parts, at=node)

    # Assignment

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        value = self.visit(node.value)
        target = node.targets[0]
        if self.notes and len(node.targets) == 1 and isinstance(target, (ast.Attribute, ast.Subscript)):
            return self.place(target, value, node)
        if any(isinstance(each, (ast.Tuple, ast.List)) for each in node.targets):
            value = self.helper("whole", value, at=value)
        node.value = self.stored(value, self.shared_names(node.targets))
        node.targets = self.expressions(node.targets)
        return node

    def place(self, target: ast.Attribute | ast.Subscript, value: ast.expr, at: ast.stmt) -> ast.stmt:
        """The one store of a statement, by a function of C so that the helper has the value and the place."""
        if isinstance(target, ast.Attribute):
            obj, name = self.visit(target.value), self.attribute(target.attr, target)
            call = self.spread("setattr", "set_attribute", value, obj, name, at=target)
        else:
            obj, key = self.visit(target.value), self.visit(target.slice)
            call = self.spread("setitem", "set_item", value, obj, key, at=target)
        return self.at(at, ast.Expr(call))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | list[ast.stmt]:
        if node.value is None:
            return node
        if isinstance(node.target, ast.Name):
            node.value = self.stored(self.visit(node.value), self.shared_names([node.target]))
        else:
            node.value = self.visit(node.value)
            node.target = self.visit(node.target)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        node.value = self.stored(self.visit(node.value), self.shared_names([node.target]))
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | list[ast.stmt]:
        target, value = node.target, self.visit(node.value)
        if isinstance(target, ast.Name):
            return self.augmented_name(node, target, value)
        if self.scope.kind != "function":
            return self.augmented_outside(node, target, value)
        before: list[ast.stmt] = []
        temporary: list[tuple[int, str]] = []

        def once(part: ast.expr, name: str) -> ast.expr:
            if self.is_stable(part, node.value):
                return part
            before.append(self.at(part, ast.Assign([self.at(part, ast.Name(name, ast.Store()))], self.visit(part))))
            temporary.append((len(before), name))
            return self.load(name, part)

        obj = once(target.value, "@obj")
        if isinstance(target, ast.Attribute):
            loaded = self.at(target, ast.Attribute(copy.deepcopy(obj), target.attr, ast.Load()))
            new = self.operate(node, self.visit_Attribute(loaded), value)
            call = self.spread("setattr", "set_attribute", new, obj, self.attribute(target.attr, target), at=target)
        else:
            if not temporary and not self.is_stable(target.slice, node.value):
                # Evaluated before the key is: it may be unbound.
                before.append(self.at(obj, ast.Expr(copy.deepcopy(obj))))
            key = once(target.slice, "@key")
            old = self.spread("getitem", "read_item", copy.deepcopy(obj), copy.deepcopy(key), at=target)
            new = self.operate(node, self.noted(old), value)
            call = self.spread("setitem", "set_item", new, obj, key, at=target)
        statements = [*before, self.at(node, ast.Expr(call))]
        for place, name in reversed(temporary):
            statements[place:] = [self.without(name, statements[place:], node)]
        return statements

    def without(self, name: str, statements: list[ast.stmt], at: ast.AST) -> ast.stmt:
        """`statements`, and no temporary of that name any more, also where they raise: it would keep what it refers to,
        and show among the locals."""
        gone = self.at(at, ast.Delete([self.at(at, ast.Name(name, ast.Del()))]))
        return self.at(at, ast.Try(statements, [], [], [gone]))

    def augmented_name(self, node: ast.AugAssign, target: ast.Name, value: ast.expr) -> ast.stmt:
        if self.is_shared(target.id):
            old = self.visit_Name(self.load(target.id, target))
            new = self.stored(self.operate(node, old, value), [target])
            return self.at(node, ast.Assign([target], new))
        owner = self.scope.owner(mangle(target.id, self.scope.class_name))
        if type(node.op) in OF_CONTAINERS and not is_number(value) and owner is self.scope:
            # The name was loaded before this operand is evaluated, so it is bound; and nobody else can rebind it.
            if not rebinds(node.value, target.id):
                name = self.at(value, ast.Constant(f"__i{OPERATORS[type(node.op)].rstrip('_')}__"))
                value = self.helper("in_place", self.load(target.id, target), value, name, at=value)
        node.value = value
        return node

    def augmented_outside(
        self, node: ast.AugAssign, target: ast.Attribute | ast.Subscript, value: ast.expr
    ) -> ast.stmt:
        # In a module's or class's body, where a temporary would show: read and write are announced together.
        if isinstance(target, ast.Attribute):
            name = self.attribute(target.attr, target)
            read = self.helper("read_attribute", self.visit(target.value), name, at=target.value)
            target.value = self.helper("write_attribute", read, copy.deepcopy(name), at=target.value)
        else:
            target.value = self.helper("whole", self.visit(target.value), at=target.value)
            if not isinstance(target.slice, ast.Slice):
                target.slice = self.visit(target.slice)
        node.value = value
        return node

    def operate(self, node: ast.AugAssign, old: ast.expr, value: ast.expr) -> ast.expr:
        """The operation of an augmented assignment, as an expression."""
        operator = OPERATORS[type(node.op)].rstrip("_")
        if type(node.op) in OF_CONTAINERS and not is_number(value):
            return self.spread(
                f"i{operator}", "in_place_two", old, value, self.at(node, ast.Constant(f"__i{operator}__")), at=node
            )
        return self.helper(f"i{operator}", old, value, at=node)

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for target in _flat(node.targets):
            if isinstance(target, ast.Subscript):
                value, key = self.visit(target.value), self.visit(target.slice)
                call = self.spread("delitem", "delete_item", value, key, at=target)
                statements.append(self.at(node, ast.Expr(call)))
                continue
            if isinstance(target, ast.Name) and self.is_shared(target.id):
                nothing = self.at(target, ast.Constant(None))
                statements.append(self.at(node, ast.Expr(self.stored(nothing, [target]))))
            statements.append(self.at(node, ast.Delete([self.visit(target)])))
        return statements or [node]  # `del ()`


def _flat(targets: Iterable[ast.expr]) -> Iterable[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target
