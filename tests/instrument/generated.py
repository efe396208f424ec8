"""Programs made by chance, from a seed: every statement and expression that the rewriter knows, in any combination.

Most of them raise somewhere, and that is half of the point: what they raise, where, and what they had done by then.
Each step is counted, and a program stops when it has made too many, so that all end.
"""

from __future__ import annotations

import random
from collections.abc import Callable

HEAD = '''
import collections, re, traceback
log = []
steps = 0
class Stop(BaseException): pass
def show(value):
    return re.sub("0x[0-9a-f]+", "0x", str(value))[:200]
def places(error):
    frames = traceback.extract_tb(error.__traceback__)
    return [(each.name, each.lineno, getattr(each, "colno", 0)) for each in frames]
def tick(value=None):
    global steps
    steps += 1
    if steps > 300: raise Stop
    return value
class Box:
    shared = [0]
    total = 0
    __slots__ = ("__dict__", "slot")
    def __init__(self, **kw): self.items = [1, 2]; self.n = 3; self.__dict__.update(kw)
    def get(self, k=0): return self.items[k]
    def put(self, v): self.items.append(v); self.total += 1; return self
    @property
    def size(self): return len(self.items)
    @size.setter
    def size(self, v): del self.items[v:]
    def __enter__(self): self.n += 1; return self
    def __exit__(self, *e): self.n -= 1; return e[0] is KeyError
    def __getitem__(self, k): return self.items[k]
    def __setitem__(self, k, v): self.items[k] = v
    def __iadd__(self, v): self.items += [v]; return self
    def __repr__(self): return f"Box({self.items}, {self.n})"
class Registry(dict):
    def __missing__(self, k): self[k] = [k]; return self[k]
g = [1]
h = {"a": 1}
o = Box()
r = Registry()
q = collections.deque([1, 2], 4)
s = {1, 2}
'''

LOCALS = ("a", "b", "c")
GLOBALS = ("g", "h", "o", "r", "q", "s")
ATTRIBUTES = ("items", "n", "size", "total", "shared", "slot", "nope")
METHODS = (
    "append({})", "pop()", "get({})", "put({})", "add({})", "update({})", "extend({})", "copy()", "items()", "keys()",
    "values()", "setdefault({}, {})", "pop({})", "remove({})", "index({})", "insert(0, {})", "clear()", "discard({})",
    "count({})", "popleft()", "union({})", "sort()", "size",
)  # fmt: skip
BUILT_INS = (
    "len({})", "sorted({})", "list({})", "sum({})", "max({}, {})", "str({})", "tuple({})", "any({})", "set({})",
    "list(zip({}, {}))", "next(iter({}))", "getattr({}, 'n', 0)", "list(map(str, {}))", "dict({})", "repr({})",
    "list(enumerate({}))", "list(reversed({}))", "bool({})", "hasattr({}, 'n')", "min({}, default=0)",
)  # fmt: skip


class Program:
    """One program's text, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.depth = 0
        self.functions = 0

    def pick(self, *choices: Callable[[], str]) -> str:
        return self.random.choice(choices)()

    # Expressions

    def name(self) -> str:
        return self.random.choice(LOCALS + GLOBALS)

    def atom(self) -> str:
        return self.random.choice(
            (self.name(), self.name(), self.name(), "0", "1", "2", "'a'", "None", "[]", "{}", "(1, 2)", "[3, 4]",
             "{'a': 2}", "Box()", "True")
        )  # fmt: skip

    def expression(self) -> str:
        self.depth += 1
        try:
            if self.depth > 4 or self.random.random() < 0.25:
                return self.atom()
            return self.pick(
                lambda: f"{self.name()}.{self.random.choice(ATTRIBUTES)}",
                lambda: f"{self.expression()}[{self.expression()}]",
                lambda: f"{self.name()}[{self.random.choice(('0', '-1', ':1', '1:', '::2'))}]",
                lambda: f"({self.expression()} {self.random.choice('+-*%|&')} {self.expression()})",
                lambda: f"({self.expression()} {self.comparison()} {self.expression()})",
                lambda: f"({self.atom()} {self.comparison()} {self.expression()} {self.comparison()} {self.atom()})",
                lambda: f"({self.expression()} {self.random.choice(('and', 'or'))} {self.expression()})",
                lambda: f"(not {self.expression()})",
                lambda: f"({self.expression()} if {self.expression()} else {self.expression()})",
                lambda: f"[{self.expression()} for {self.target()} in {self.atom()} if tick({self.atom()})]",
                lambda: f"{{x: {self.expression()} for x in {self.atom()}}}",
                lambda: f"list({self.expression()} for x in {self.atom()})",
                lambda: f"(lambda x, *y: {self.expression()})({self.expression()}, *{self.expression()})",
                lambda: f"(w := {self.expression()})",
                lambda: f"[*{self.expression()}, {self.expression()}]",
                lambda: f"{{**{self.expression()}}}",
                lambda: f"f'{{{self.name()}}} {{{self.name()}!r:>3}}'",
                lambda: f"({self.expression()}).{self.fill(METHODS)}",
                lambda: self.fill(BUILT_INS),
                lambda: f"tick({self.expression()})",
                lambda: f"'%s' % {self.expression()}",
            )
        finally:
            self.depth -= 1

    def comparison(self) -> str:
        return self.random.choice(("==", "!=", "<", "in", "not in", "is", ">="))

    def fill(self, forms: tuple[str, ...]) -> str:
        form = self.random.choice(forms)
        return form.format(*(self.expression() for _ in range(form.count("{}"))))

    def target(self) -> str:
        return self.random.choice((*LOCALS, "x", "(a, b)", "g", "o.n"))

    def place(self) -> str:
        return self.pick(
            self.name,
            lambda: self.random.choice(LOCALS),
            lambda: f"{self.random.choice('oar')}.{self.random.choice(ATTRIBUTES)}",
            lambda: f"{self.name()}[{self.expression()}]",
            lambda: f"{self.name()}.items[{self.expression()}]",
            lambda: f"{self.name()}[0:1]",
        )

    # Statements

    def block(self, indent: str, many: int = 3) -> str:
        return "".join(self.statement(indent + "    ") for _ in range(self.random.randint(1, many)))

    def statement(self, indent: str) -> str:
        if len(indent) > 20:
            return f"{indent}log.append(show({self.expression()}))\n"
        text = self.pick(
            lambda: f"{self.place()} = {self.expression()}\n",
            lambda: f"{self.place()} = {self.place()} = {self.expression()}\n",
            lambda: f"{self.place()}, {self.place()} = {self.expression()}, {self.expression()}\n",
            lambda: f"{self.place()}, *{self.place()} = {self.expression()}\n",
            lambda: f"{self.place()} {self.random.choice(('+=', '-=', '*=', '|='))} {self.expression()}\n",
            lambda: f"{self.place()} += {self.random.choice(('1', '[5]', '(6,)'))}\n",
            lambda: f"del {self.place()}\n",
            lambda: f"log.append(show({self.expression()}))\n",
            lambda: f"{self.expression()}\n",
            lambda: f"if {self.expression()}:\n{self.block(indent)}{indent}else:\n{self.block(indent)}",
            lambda: f"for {self.target()} in {self.expression()}:\n{indent}    tick()\n{self.block(indent)}",
            lambda: f"while tick({self.expression()}):\n{self.block(indent)}{indent}    break\n",
            lambda: (
                f"try:\n{self.block(indent)}{indent}except (TypeError, LookupError, AttributeError, ValueError) as e:\n"
                f"{indent}    log.append((type(e).__name__, show(e), e.__traceback__.tb_lineno))\n"
                f"{self.block(indent)}{indent}finally:\n{self.block(indent, 1)}"
            ),
            lambda: f"with Box(k=1) as {self.place()}:\n{self.block(indent)}",
            lambda: self.function(indent),
            lambda: (
                f"match {self.expression()}:\n{indent}    case [a, *b]:\n{self.block(indent + '    ')}"
                f"{indent}    case {{'a': c}} if c:\n{self.block(indent + '    ')}"
                f"{indent}    case Box(items=a):\n{self.block(indent + '    ')}"
            ),
            lambda: f"assert {self.expression()}, {self.expression()}\n",
            lambda: f"class C:\n{self.block(indent)}",
        )
        return indent + text

    def function(self, indent: str) -> str:
        self.functions += 1
        name = f"f{self.functions}"
        kind = self.random.choice(("", "", "yield"))
        declared = self.random.choice(("nonlocal a, b", "global g, h", "pass", "nonlocal c"))
        body = self.block(indent)
        last = f"yield {self.expression()}" if kind else f"return {self.expression()}"
        call = f"list({name}({self.expression()}))" if kind else f"{name}({self.expression()})"
        head = f"def {name}(x=None):\n{indent}    {declared}\n{indent}    tick()\n"
        return f"{head}{body}{indent}    {last}\n{indent}{call}\n"

    def text(self) -> str:
        body = "".join(
            f"    try:\n{self.statement('        ')}"
            "    except Exception as e:\n"
            "        log.append((type(e).__name__, show(e), *places(e)))\n"
            for _ in range(12)
        )
        declared = self.random.choice(("global g, h, o, r, q, s", "global g, h, o, r, q, s", "global g, h", "pass"))
        return (
            f"{HEAD}\ndef main(x=0):\n    {declared}\n    a, b, c = 1, [2, 3], {{'a': [4]}}\n{body}"
            "    log.append([show(each) for each in (a, b, c, g, h, o, r, q)])\n"
            "def run():\n    main()\n"
        )
