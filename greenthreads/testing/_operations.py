"""Rewrites what looks at containers, or changes them: calls, operators, comparisons, tests for truth, text."""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from typing import Final, cast

from greenthreads.testing._building import OF_CONTAINERS, OPERATORS, Builder, is_of_pytest
from greenthreads.testing._containers import METHOD_NAMES
from greenthreads.testing._scopes import mangle

__all__ = ["Operations"]

# Built-ins that read or change what they are given.
_BUILTINS: Final = frozenset({
    "all", "any", "array", "ascii", "bool", "bytearray", "bytes", "Counter", "defaultdict", "delattr", "deque", "dict",
    "filter", "format", "frozenset", "getattr", "hasattr", "len", "list", "map", "max", "min", "next", "OrderedDict",
    "print", "repr", "set", "setattr", "sorted", "str", "sum", "tuple", "zip",
})  # fmt: skip
_COMPARISONS: Final = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip

# From 3.13 on `not a < b` is one instruction, at the place of the `not`.
_NOT_COMPARES: Final = sys.version_info >= (3, 13)


class Operations(Builder):
    """The part of the rewriter that calls and computes."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        function = node.func
        early = self.is_built_in(function)
        if isinstance(function, ast.Attribute) and self.is_private(function.value):
            self.arguments(node)
            return node
        if early and isinstance(function, ast.Name) and function.id == "len" and self.is_plain_len(node):
            if self.is_private(node.args[0]):
                return node
            node.args = [self.helper("sized", self.visit(node.args[0]), at=node.args[0])]
            return self.noted(node)
        if isinstance(function, ast.Name) and not early and self.needs_no_look(function):
            node.func = self.visit(function)
            self.arguments(node)
            return node
        multi_line = isinstance(function, ast.Attribute) and function.lineno != function.end_lineno
        again = copy.deepcopy(node.args) if all(map(self.is_stable, node.args)) else None
        node.func = self.visit(function)
        self.arguments(node)
        result = node
        if early:
            if isinstance(function, ast.Attribute) and not node.keywords:
                name = self.at(function, ast.Constant(function.attr))
                prepared = self.helper("call_method" if again is None else "method", name, node.func, at=node)
                result = self.at(node, ast.Call(prepared, again or [], []))
            else:
                prepared = self.helper("call", node.func, at=node)
                result = self.at(node, ast.Call(prepared, [], []))
            prepared.args += node.args
            prepared.keywords = node.keywords
        elif not (isinstance(function, ast.Attribute) and is_of_pytest(function.value)):
            node.func = self.helper("called", node.func, at=function)
        if multi_line and isinstance(function, ast.Attribute) and not _is_spread(node):
            # The compiler places a method call of several lines at the name of the method. (Where somebody has made
            # the call up, as pytest does for assertions, there is no name.)
            column = cast("int", function.end_col_offset) - len(function.attr)
            if column >= 0:
                result.lineno, result.col_offset = cast("int", function.end_lineno), column
                result.end_lineno, result.end_col_offset = node.end_lineno, node.end_col_offset
        return self.noted(result) if early else result

    def arguments(self, node: ast.Call) -> None:
        node.args = self.expressions(node.args)
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
            if keyword.arg is None:
                keyword.value = self.helper("whole", keyword.value, at=keyword.value)

    def is_built_in(self, function: ast.expr) -> bool:
        """Whether a call's name says that it may be of a container's method, or of a built-in that looks at one."""
        if isinstance(function, ast.Attribute):
            return function.attr in METHOD_NAMES
        if not isinstance(function, ast.Name):
            return False
        name = mangle(function.id, self.scope.class_name)
        owner = self.scope.owner(name)
        if owner.parent is None:
            bound = owner.bound.get(name, ())
            return name in _BUILTINS and ("definition" not in bound) and (name in bound or hasattr(builtins, name))
        # A local that holds a function: `append = self.items.append`.
        return owner is self.scope and owner.bound[name] == {"assignment"}

    def is_plain_len(self, node: ast.Call) -> bool:
        module = self.scope.module
        return (
            len(node.args) == 1
            and not node.keywords
            and not isinstance(node.args[0], ast.Starred)
            and self.scope.owner("len") is module
            and "len" not in module.bound
            and not module.star
        )

    def needs_no_look(self, function: ast.Name) -> bool:
        name = mangle(function.id, self.scope.class_name)
        owner = self.scope.owner(name)
        if owner.parent is None and name not in owner.bound:
            return not owner.star
        # What is imported may be a built-in (`from heapq import heappush`), what is defined may not.
        return owner.bound[name] == {"definition"}

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        node.value = self.visit(node.value)
        if isinstance(node.ctx, ast.Load):
            node.value = self.helper("whole", node.value, at=node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        keys: list[ast.expr | None] = []
        for key, value in zip(node.keys, node.values, strict=True):
            keys.append(None if key is None else self.visit(key))
            index = len(keys) - 1
            node.values[index] = self.visit(value)
            if key is None:
                node.values[index] = self.helper("whole", node.values[index], at=value)
        node.keys = keys
        return node

    # Operators

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        stable = self.is_stable(node.left, node.right)
        node.left, node.right = left, right
        text = isinstance(node.op, ast.Mod) and isinstance(left, (ast.Constant, ast.JoinedStr))
        if not (type(node.op) in OF_CONTAINERS and (text or _may_be_container(left))):
            return node
        if not _may_be_container(right, node.op):
            return node
        if stable:
            node.right = self.helper("right", copy.deepcopy(left), right, at=right)
            return node
        return self.spread(OPERATORS[type(node.op)], "two", left, right, at=node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        operands = self.expressions([node.left, *node.comparators])
        if len(node.ops) == 1:
            left, right, operator = operands[0], operands[1], node.ops[0]
            stable = self.is_stable(node.left, node.comparators[0])
            if isinstance(operator, (ast.In, ast.NotIn)) and _may_be_container(right):
                if stable:
                    node.comparators = [self.helper("container", copy.deepcopy(left), right, at=right)]
                    return node
                call = self.spread("contains", "contains_item", left, right, at=node)
                return call if isinstance(operator, ast.In) else self.at(node, ast.UnaryOp(ast.Not(), call))
            if type(operator) in _COMPARISONS and _may_be_container(left) and _may_be_container(right):
                if stable:
                    node.comparators = [self.helper("right", copy.deepcopy(left), right, at=right)]
                    return node
                return self.spread(_COMPARISONS[type(operator)], "two", left, right, at=node)
        else:
            # Each operand is announced where it is evaluated. The right one of each pair is compared right then.
            for index, operator in enumerate(node.ops):
                if not isinstance(operator, (ast.Is, ast.IsNot)) and _may_be_container(operands[index + 1]):
                    operands[index + 1] = self.helper("shown", operands[index + 1], at=operands[index + 1])
            if not isinstance(node.ops[0], (ast.Is, ast.IsNot, ast.In, ast.NotIn)) and _may_be_container(operands[0]):
                operands[0] = self.helper("shown", operands[0], at=operands[0])
        node.left, node.comparators = operands[0], operands[1:]
        return node

    def truth(self, node: ast.expr, test: ast.expr) -> ast.expr:
        """`test`, made from `node`, which is about to be tested."""
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.NamedExpr, ast.IfExp, ast.BinOp)):
            return self.helper("truth", test, at=test)
        if isinstance(node, ast.BoolOp) and isinstance(test, ast.BoolOp):
            test.values[-1] = self.truth(node.values[-1], test.values[-1])
        return test

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        plain = list(node.values)
        last = len(plain) - 1
        node.values = [
            self.truth(each, self.visit(each)) if index < last else self.visit(each) for index, each in enumerate(plain)
        ]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        plain = node.operand
        if _NOT_COMPARES and isinstance(node.op, ast.Not) and isinstance(plain, ast.Compare):
            if len(plain.ops) == 1 and type(plain.ops[0]) in _COMPARISONS:
                self.at(node, plain)
        node.operand = self.visit(plain)
        if isinstance(node.op, ast.Not):
            node.operand = self.truth(plain, node.operand)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        plain = node.test
        node.test = self.truth(plain, self.visit(plain))
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        plain = node.test
        node.test = self.truth(plain, self.visit(plain))
        if node.msg is not None:
            node.msg = self.visit(node.msg)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        node.value = self.visit(node.value)
        if _may_be_container(node.value):
            node.value = self.helper("shown", node.value, at=node.value)
        if node.format_spec is not None:
            node.format_spec = self.visit(node.format_spec)
        return node


def _is_spread(node: ast.Call) -> bool:
    return any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords)


def _may_be_container(node: ast.expr, operator: ast.operator | None = None) -> bool:
    """Whether an operand, as rewritten, may be a mutable container that somebody else holds."""
    if isinstance(operator, ast.Mult) and isinstance(node, ast.Constant) and isinstance(node.value, int):
        return True
    return not isinstance(node, (ast.Constant, ast.JoinedStr, ast.Lambda))
