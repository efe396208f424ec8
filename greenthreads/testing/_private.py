"""Containers that one function alone knows: no other thread can come by them, so what is done to them is no access.

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()

Nearly every test has such a list, and without this each step of its loops would be a choice point. A local variable
holds a private container if

- it is bound by `name = [...]` and its like alone: a display or a comprehension, so that the container is new;
- it is used for nothing but to loop over the container, to look at an item or the length, and to append;
- no inner function has it, and the function is no generator, whose frame may be another thread's the next time.

So the container has no other reference, from its beginning to its end. What is *in* it is another matter.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from greenthreads.testing._scopes import Scope

__all__ = ["private_names"]

_NEW: Final = (ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
# By these a function may hand out its variables, or set them.
_ALL_VARIABLES: Final = frozenset({"dir", "eval", "exec", "locals", "vars"})


def private_names(function: ast.FunctionDef, scope: Scope) -> frozenset[str]:
    """The local variables of a function that hold containers of its own."""
    nodes = [node for statement in function.body for node in ast.walk(statement)]
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in nodes):
        return frozenset()
    names = [node for node in nodes if isinstance(node, ast.Name)]
    if not _ALL_VARIABLES.isdisjoint(name.id for name in names):
        return frozenset()
    candidates = {
        name
        for name, how in scope.bound.items()
        if how == {"assignment"} and name not in scope.captured | scope.globals | scope.nonlocals
    }
    if not candidates:
        return frozenset()
    fine = {id(use) for node in nodes for use in _uses(node)}
    # A generator expression runs later, maybe in another thread.
    fine -= {id(inner) for node in nodes if isinstance(node, ast.GeneratorExp) for inner in ast.walk(node)}
    candidates -= {name.id for name in names if id(name) not in fine}
    candidates &= {name.id for name in names}
    # Names that are no nodes: of exceptions, and of patterns.
    return frozenset(candidates - {getattr(node, each, "") for node in nodes for each in ("name", "rest")})


def _uses(node: ast.AST) -> list[ast.expr]:
    """The names in `node` whose use there makes no other reference to what they hold."""
    if isinstance(node, ast.Assign) and isinstance(node.value, _NEW):
        return node.targets if len(node.targets) == 1 else []
    if isinstance(node, ast.AnnAssign) and isinstance(node.value, _NEW):
        return [node.target]
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp)):
        return [node.generators[0].iter]
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return [node.value]
    if isinstance(node, ast.Call) and not node.keywords and len(node.args) == 1:
        if isinstance(node.func, ast.Name) and node.func.id == "len":
            return [node.args[0]]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            return [node.func.value]
    return []
