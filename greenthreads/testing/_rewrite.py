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
"""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from typing import TYPE_CHECKING, Final, TypeVar, cast

from greenthreads.testing._containers import METHOD_NAMES
from greenthreads.testing._private import private_names
from greenthreads.testing._scopes import analyse, mangle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CAPTURE", "MARK", "rewrite", "unshared"]

# What the constants begin with that `_codes` replaces: MARK + kind + ":" + name.
MARK: Final = "\0greenthreads:"
# The parameter that tells the closures made here from those of the program.
CAPTURE: Final = "@capture"

# Built-ins that read or change what they are given.
_BUILTINS: Final = frozenset({
    "all", "any", "array", "ascii", "bool", "bytearray", "bytes", "Counter", "defaultdict", "delattr", "deque", "dict",
    "filter", "format", "frozenset", "getattr", "hasattr", "len", "list", "map", "max", "min", "next", "OrderedDict",
    "print", "repr", "set", "setattr", "sorted", "str", "sum", "tuple", "zip",
})  # fmt: skip
_OPERATORS: Final = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.LShift: "lshift", ast.RShift: "rshift", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.BitAnd: "and_", ast.MatMult: "matmul",
}  # fmt: skip
# The operators that some container has.
_OF_CONTAINERS: Final = frozenset({ast.Add, ast.Sub, ast.Mult, ast.Mod, ast.BitOr, ast.BitXor, ast.BitAnd})
_COMPARISONS: Final = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip

# Where an iterable refuses to be iterated: before 3.13 that is said of the whole loop.
_ITER_AT_ITERABLE: Final = sys.version_info >= (3, 13)
# From 3.13 on `not a < b` is one instruction, at the place of the `not`.
_NOT_COMPARES: Final = sys.version_info >= (3, 13)

_Node = TypeVar("_Node", bound=ast.AST)


def rewrite(tree: ast.Module, *, notes: bool = False) -> ast.Module:
    """Instrument a tree, in place. With `notes`, the values of reads and writes are told as well."""
    tree = unshared(tree)
    return cast("ast.Module", _Rewriter(tree, notes).visit(tree))


def unshared(node: _Node) -> _Node:
    """The same tree of other nodes, each in one place. (pytest's assertions have the same node in several.)"""
    fresh = copy.copy(node)
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            setattr(fresh, name, unshared(value))
        elif isinstance(value, list):
            setattr(fresh, name, [unshared(each) if isinstance(each, ast.AST) else each for each in value])
    return fresh


class _Rewriter(ast.NodeTransformer):
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

    # Attributes and items

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id.startswith("@py"):
            return node
        helper = "read_attribute" if isinstance(node.ctx, ast.Load) else "write_attribute"
        node.value = self.helper(helper, self.visit(node.value), self.attribute(node.attr, node), at=node.value)
        return self.noted(node) if helper == "read_attribute" else node

    def is_private(self, node: ast.expr) -> bool:
        """Whether `node` is a variable that holds a container of the function's own."""
        return isinstance(node, ast.Name) and node.id in self.private

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
            and not any(_rebinds(each, node.id) for each in others)
        )

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
        temporary: list[str] = []

        def once(part: ast.expr, name: str) -> ast.expr:
            if self.is_stable(part, node.value):
                return part
            before.append(self.at(part, ast.Assign([self.at(part, ast.Name(name, ast.Store()))], self.visit(part))))
            temporary.append(name)
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
        after: list[ast.stmt] = [self.at(node, ast.Expr(call))]
        if temporary:
            after.append(self.at(node, ast.Delete([self.at(node, ast.Name(each, ast.Del())) for each in temporary])))
        return before + after

    def augmented_name(self, node: ast.AugAssign, target: ast.Name, value: ast.expr) -> ast.stmt:
        if self.is_shared(target.id):
            old = self.visit_Name(self.load(target.id, target))
            new = self.stored(self.operate(node, old, value), [target])
            return self.at(node, ast.Assign([target], new))
        owner = self.scope.owner(mangle(target.id, self.scope.class_name))
        if type(node.op) in _OF_CONTAINERS and not _is_number(value) and owner is self.scope:
            # The name was loaded before this operand is evaluated, so it is bound; and nobody else can rebind it.
            if not _rebinds(node.value, target.id):
                name = self.at(value, ast.Constant(f"__i{_OPERATORS[type(node.op)].rstrip('_')}__"))
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
        operator = _OPERATORS[type(node.op)].rstrip("_")
        if type(node.op) in _OF_CONTAINERS and not _is_number(value):
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

    # Calls

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
        elif not (isinstance(function, ast.Attribute) and _is_py(function.value)):
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
        if not (type(node.op) in _OF_CONTAINERS and (text or _may_be_container(left))):
            return node
        if not _may_be_container(right, node.op):
            return node
        if stable:
            node.right = self.helper("right", copy.deepcopy(left), right, at=right)
            return node
        return self.spread(_OPERATORS[type(node.op)], "two", left, right, at=node)

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

    def visit_If(self, node: ast.If | ast.While) -> ast.stmt:
        plain = node.test
        explains = _explains_a_failure(node)
        node.test = self.truth(plain, self.visit(plain))
        if not explains:
            node.body = self.block(node.body)
        node.orelse = self.block(node.orelse)
        return node

    visit_While = visit_If

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

    # Iteration

    def iterated(self, iterable: ast.expr, loop: ast.AST) -> ast.expr:
        """`iterable`, visited, with an announcement before each step of the loop."""
        if self.is_private(iterable):
            return iterable
        at = iterable if _ITER_AT_ITERABLE else loop
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
        first.iter = self.iterated(self.visit(first.iter), node)
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
                outermost.append(self.at(target, ast.Assign([self.visit(target)], value)))
                outermost.append(self.at(target, ast.Delete([self.at(target, ast.Name("@entered", ast.Del()))])))
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


def _flat(targets: Iterable[ast.expr]) -> Iterable[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target


def _is_py(node: ast.expr) -> bool:
    # pytest's own names in a test module that it has rewritten.
    return isinstance(node, ast.Name) and node.id.startswith("@py")


def _explains_a_failure(node: ast.If | ast.While) -> bool:
    """Whether this is where an assertion that pytest has rewritten has failed, and its message is made.

    That is over before others run: it is no part of the program, and a trace ends where the program has failed.
    """
    test = node.test
    return isinstance(test, ast.UnaryOp) and _is_py(test.operand) and isinstance(node.body[-1], ast.Raise)


def _is_spread(node: ast.Call) -> bool:
    return any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex))


def _may_be_container(node: ast.expr, operator: ast.operator | None = None) -> bool:
    """Whether an operand, as rewritten, may be a mutable container that somebody else holds."""
    if isinstance(operator, ast.Mult) and isinstance(node, ast.Constant) and isinstance(node.value, int):
        return True
    return not isinstance(node, (ast.Constant, ast.JoinedStr, ast.Lambda))


def _rebinds(node: ast.expr, name: str) -> bool:
    return any(isinstance(each, ast.NamedExpr) and each.target.id == name for each in ast.walk(node))
