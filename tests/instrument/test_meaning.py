"""The program means what it meant: whatever it can observe of itself is the same, instrumented or plain."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[..., ModuleType]
Hear = Callable[..., Any]

# Each `run()` returns what it saw, or raises; `check` compares outcome, text and places with the plain run's.
PROGRAMS = {
    "evaluation order": """
        log = []
        def say(x): log.append(x); return x
        class D(dict): pass
        def run():
            d, l = D(), [0, 1]
            d[say("k")] = say("v")
            d[say("a")], l[say(0)] = say(1), say(2)
            l[say(1)] += say(5)
            say(d)["k"] = say("w")
            say(l).append(say(9)), say({}).get(say("x"), say("y"))
            say(1) in say([1]); say([1]) == say([1]); say([]) or say({}) and say(1)
            say(1) < say(2) < say(0) < say(7)
            del say(l)[say(0)], d[say("k")]
            return log, d, l
        """,
    "bound methods of callables without a name": """
        import functools, types
        class Bound(functools.partial):
            def __get__(self, obj, kind): return types.MethodType(self, obj)
        class Nameless:
            def __call__(self, of, *args): return of, args
        class Greeter(list):
            greet = get = Bound(lambda self, end: f"Hello{end}", end="!")
            items = append = types.MethodType(Nameless(), 5)
        def run():
            greeter = Greeter()
            add = types.MethodType(Nameless(), greeter)
            return greeter.greet(), greeter.get(), greeter.items(1), greeter.append(2), add(3)
        """,
    "code objects that are kept": """
        import sys
        INTERNAL = set()
        def internal(function):
            INTERNAL.add(function.__code__)
            return function
        @internal
        def inside(): return sys._getframe().f_code in INTERNAL
        def outside(): return sys._getframe().f_code in INTERNAL
        def run(): return inside(), outside(), inside.__code__ in INTERNAL, len(INTERNAL)
        """,
    "a class that goes": """
        import gc, weakref
        def run():
            class Counter(list):
                total = 0
            counter = Counter([1])
            counter.total += len(counter) + counter[0]
            counter.append(2)
            gone = []
            ref = weakref.ref(Counter, gone.append)
            del Counter, counter
            gc.collect()
            return ref(), len(gone)
        """,
    "names that are not bound": """
        def one():
            return x
            x = 1
        def two():
            def inner(): return y
            del y
            y = 1
        def three():
            n += 1
        def four():
            l[[].missing] += 1
            l = []
        def run():
            texts = []
            for call in (one, two, three, four):
                try: call()
                except NameError as error: texts.append((type(error), str(error)))
            return texts
        """,
    "exceptions of operations": """
        import traceback
        class Bad:
            def __getitem__(self, k): raise ValueError("item")
            def __contains__(self, k): raise ValueError("in")
            def __iter__(self): raise ValueError("iter")
            def __len__(self): return -1
            def __bool__(self): raise ValueError("bool")
            def __eq__(self, other): raise ValueError("eq")
            def __add__(self, other): raise ValueError("add")
            def __iadd__(self, other): raise ValueError("iadd")
            def __getattr__(self, name): raise ValueError(name)
            def __setattr__(self, name, value): raise ValueError(name)
        def calls():
            b = Bad()
            yield lambda: b[1]
            yield lambda: 1 in b
            yield lambda: [x for x in b]
            yield lambda: len(b)
            yield lambda: 1 if b else 2
            yield lambda: b == 1
            yield lambda: b == b
            yield lambda: b + 1
            yield lambda: b.x
            yield lambda: setattr(b, "x", 1)
            yield lambda: [].pop()
            yield lambda: {}["k"]
            yield lambda: {}.pop("k")
            yield lambda: {[]: 1}
            yield lambda: [1].index(2)
            yield lambda: sorted([1, "a"])
            yield lambda: max([])
            yield lambda: (lambda x: x)(1, 2)
            yield lambda: 1 + "a"
            yield lambda: [] + five
            yield lambda: "a" in 5
            nothing, five = None, 5
            yield lambda: nothing[0]
            yield lambda: nothing.x
            yield lambda: five()
            yield lambda: len(5)
            yield lambda: next(iter([]))
            yield lambda: [*5]
            yield lambda: "%d" % "x"
            yield lambda: {1}.remove(2)
        def stores():
            b = Bad()
            def attr(): b.x = 1
            def aug(): b.x += 1
            def augname():
                c = b
                c += 1
            def item(): b[0] = 1
            def fixed(): t = (1, 2); t[0] = 1
            def swap(): l = [1]; l[0], l[5] = 1, 2
            def short(): a, c = [1]
            def long(): a, c = [1, 2, 3]
            def none(): a, c = None
            def loop():
                for x in 5: pass
            def delete(): del [][0]
            def deep(): b.c.d += 1
            return attr, aug, augname, item, fixed, swap, short, long, none, loop, delete, deep
        def run():
            seen = []
            for call in (*calls(), *stores()):
                try: seen.append(call())
                except Exception as error:
                    frames = traceback.extract_tb(error.__traceback__)
                    places = [(f.name, f.lineno, getattr(f, "colno", 0)) for f in frames]
                    seen.append((type(error).__name__, str(error), places))
            return seen
        """,
    "lines of chained calls": """
        import traceback
        class Chain:
            def go(self): return self
            def get(self, x): return self
            def fail(self): raise ValueError
        def run():
            try:
                (Chain()
                    .go()
                    .get(
                        1)
                    .fail()
                    .go())
            except ValueError as error:
                return [(f.lineno, getattr(f, "colno", 0)) for f in traceback.extract_tb(error.__traceback__)]
        """,
    "name mangling": """
        class Base:
            __n = 1
            def __init__(self): self.__m = {}; self.__m["k"] = self.__n
            def get(self): self.__m["k"] += 1; return self.__m, vars(self), self.__n
        class _Sub(Base):
            __n = 2
            def own(self): return self.__n, super().get()
        def run(): return Base().get(), _Sub().own()
        """,
    "super and the class cell": """
        class A:
            def f(self): return ["A"]
            @classmethod
            def make(cls): return cls.__name__
        class B(A):
            def f(self): return super().f() + [__class__.__name__]
            @classmethod
            def make(cls): return super().make() + "!"
            def g(self): return [super(B, self).f() for _ in (1,)]
            def h(self): return (lambda: super(B, self).f())()
        def run(): return B().f(), B.make(), B().g(), B().h()
        """,
    "locals, globals, eval and exec": """
        def run():
            x = 1
            d = {}
            exec("y = x + 1", globals(), {"x": x})
            exec("z = 5", {}, d)
            d["n"] = d.get("z")
            l = [i for i in (1,)]
            l[0] += eval("x")
            return sorted(locals()), "run" in globals(), d["z"], eval("x + 1"), vars() == locals(), dir()
        """,
    "what a statement that raises leaves behind": """
        import weakref
        kept = []
        class Box:
            def __init__(self):
                self.n = 1
                kept.append(weakref.ref(self))
            def __getitem__(self, key): return self.n
            def __setitem__(self, key, value): raise KeyError(key)
            def __hash__(self): return 1
        class Enter:
            def __enter__(self): return Box()
            def __exit__(self, *exc): pass
        def alive(): return [ref() is not None for ref in kept]
        def run():
            seen = []
            def attempt(number):
                try:
                    if number == 0: Box().n += "text"
                    elif number == 1: Box().missing += 1
                    elif number == 2: Box()[Box()] += 1
                    elif number == 3: Box()[1 // 0] += 1
                    elif number == 4: Box().n += 1 // 0
                    else:
                        with Enter() as (a, b): return lambda: (a, b)
                except Exception as error:
                    seen.append(type(error).__name__)
                return sorted(locals()), alive()
            return [attempt(number) for number in range(6)], seen
        """,
    "namespaces of classes": """
        class Names(dict):
            def __missing__(self, key):
                if key.startswith("__") or key in ("len", "range"): raise KeyError(key)
                self[key] = key
                return key
        class Meta(type):
            @classmethod
            def __prepare__(mcs, name, bases): return Names()
        def run():
            class C(metaclass=Meta):
                first; second
                third = [first, len([1])]
                third += [n for n in range(2)]
                third[0], (a, b) = 5, (1, 2)
                for i in [1, 2]: pass
                with_items = {k: v for k, v in {1: 2}.items()}
            return sorted(k for k in vars(C) if not k.startswith("__")), C.third
        """,
    "dataclasses, enums and named tuples": """
        import collections, dataclasses, enum
        @dataclasses.dataclass(order=True)
        class P:
            x: int
            y: list = dataclasses.field(default_factory=list)
            def grow(self): self.x += 1; self.y.append(self.x); return self
        class Color(enum.Enum):
            RED = 1
            BLUE = enum.auto()
            def shout(self): return self.name + "!"
        Pair = collections.namedtuple("Pair", "a b")
        def run():
            p = P(1).grow()
            a, b = Pair(1, 2)
            return repr(p), p == P(2, [2]), p < P(3), Color.RED.shout(), [c.name for c in Color], Pair(a, b=a + b)
        """,
    "descriptors and getattr": """
        class Field:
            def __set_name__(self, owner, name): self.name = "_" + name
            def __get__(self, obj, kind): return self if obj is None else obj.__dict__[self.name]
            def __set__(self, obj, value): obj.__dict__[self.name] = value
            def __delete__(self, obj): del obj.__dict__[self.name]
        class Model:
            a = Field()
            def __getattr__(self, name):
                if name == "missing": raise AttributeError(name)
                return name.upper()
            def __getattribute__(self, name):
                return object.__getattribute__(self, name)
        def run():
            m = Model()
            m.a = 1
            m.a += 1
            seen = m.a, m.other, hasattr(m, "missing"), vars(m).copy()
            del m.a
            return seen, vars(m)
        """,
    "generators": """
        def gen():
            got = []
            try:
                while True:
                    x = yield len(got)
                    got.append(x)
            except KeyError:
                yield "caught"
            finally:
                got.clear()
            return got
        def outer():
            return (yield from gen())
        def run():
            g = outer()
            return next(g), g.send(1), g.send(2), g.throw(KeyError), list(g), list(x for x in iter([1, 2]) if x)
        """,
    "comprehensions": """
        class C:
            items = [1, 2]
            doubled = [x * 2 for x in items]
            keys = {x: y for x, y in zip(items, doubled)}
        def run():
            m = [[1, 2], [3]]
            x = 5
            flat = [x for row in m for x in row if x > 1]
            calls = [lambda: x for x in range(3)]
            return flat, x, [c() for c in calls], C.doubled, C.keys, {y := 1 for _ in m}, y, [*(a for a in [1])]
        """,
    "closures over loop variables": """
        def run():
            calls, n = [], 0
            for i in range(3):
                def add(by=i):
                    nonlocal n
                    n += by + i
                    return n
                calls.append(add)
            seen = [c() for c in calls]
            with open(__file__) as file: inside = lambda: file.closed
            try: raise ValueError
            except ValueError as error: text = lambda: 1
            try: error
            except NameError as e: seen.append(str(e))
            return seen, n, inside()
        """,
    "match": """
        import dataclasses
        @dataclasses.dataclass
        class P:
            x: object
            y: object
        def kind(v):
            match v:
                case 0 | 1: return "small"
                case [P(x=0), *rest]: return rest
                case P(a, y=[b, *_]) if a: return a, b
                case {"k": [x, y], **more}: return x, y, more
                case str() as s: return s
                case (1, 2, *_) | {"z": 1}: return "or"
            return None
        def run():
            values = 0, [P(0, 0), 1], P(1, [2, 3]), P(0, []), {"k": [1, 2], "m": 3}, "s", (1, 2, 3), {"z": 1}, None
            return [kind(v) for v in values]
        """,
    "chained comparisons and conditions": """
        def run():
            l = []
            def f(x): l.append(x); return x
            return (f(1) < f(2) < f(1) < f(9), f(1) in [f(1)] == [1], not f([]), f(0) or f([]) or f("a"),
                    f(1) and f([2]), f(3) if f([]) else f(4), 1 < 2 in [2], f(1) is f(1) is not f(None), l)
        """,
    "slices and keys": """
        class S:
            def __getitem__(self, k): return k
            def __setitem__(self, k, v): self.last = k, v
            def __delitem__(self, k): self.last = k
        def run():
            s, l = S(), list(range(9))
            s[1:2, ..., ::3] = 4
            last = s.last
            del s[:]
            l[1:3] += [7]
            l[::2] = [0] * len(l[::2])
            del l[-2:]
            return s[1], s[1:], s[:, 2], s[()], last, s.last, l
        """,
    "many kinds of assignment": """
        class N: pass
        def run():
            n = N(); n.l = [1, 2, 3]; n.d = {}
            a = n.x = n.l[0] = 9
            (n.y, [n.z, *n.d["rest"]]) = 1, (2, 3, 4)
            for n.i in [5]: pass
            for n.d["i"], n.j in [(1, 2)]: pass
            [None for n.q in (3,)]
            n.l[0] += 1; n.l[n.l[1] - 1] -= 1; n.d["rest"] += [1]; n.d.setdefault("s", set()).add(1)
            n.d["s"] |= {2}
            n.t: int = 4
            x: list = [1]
            x += (2,)
            x *= 2
            x[0:1] = n.l[:]
            del n.x, (n.y, n.d["i"])
            return a, vars(n), x
        """,
    "recursion": """
        def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
        class Node:
            def __init__(self, n): self.next = Node(n - 1) if n else None
            def __len__(self): return 1 + (len(self.next) if self.next is not None else 0)
            def each(self):
                yield self
                if self.next is not None: yield from self.next.each()
        def forever(): return forever()
        def run():
            try: forever()
            except RecursionError as error: text = str(error)
            return depth(300), len(Node(100)), sum(1 for _ in Node(50).each()), text[:33]
        """,
    "star arguments": """
        def f(*a, k=0, **kw): return a, k, kw
        def run():
            l, d = [1, 2], {"k": 3}
            print(*l, sep="", end="")
            return f(*l, 5, *l, **d), f(*(x for x in l), **{**d, "z": 1}), max(*l), f(*{}, **{})
        """,
    "global and nonlocal": """
        x = 0
        def outer():
            x = 1
            class C:
                nonlocal x
                x = 2
                y = x
            def g():
                global x
                x = 10
                return [x for _ in (1,)]
            return x, C.y, g(), x
        def run(): return outer(), x
        """,
    "warnings and assertions": """
        import warnings
        def run():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("careful")
            try: assert [] , "empty"
            except AssertionError as error: return [(w.lineno, str(w.message)) for w in caught], error.args
        """,
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_outcome_is_the_plain_runs(check: Callable[..., list[str]], name: str) -> None:
    assert isinstance(check(PROGRAMS[name]), list)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with 3.12")
def test_type_parameters(check: Callable[..., list[str]]) -> None:
    assert check("""
        type Pair[T] = tuple[T, T]
        class Box[T]:
            def __init__(self, x: T): self.x = x
            def get[U](self, default: U) -> T | U: return self.x or default
        def first[T](pair: Pair[T]) -> T: return pair[0]
        def run(): return Box([]).get(5), first((1, 2)), Box.__type_params__[0].__name__
    """) == ["Box x:w", "Box x:r", "list SIZE:r", "type __type_params__:r", "TypeVar __name__:r"]


def test_nothing_is_kept_alive(load: Load, hear: Hear) -> None:
    module = load("""
        import weakref
        class Box:
            def __init__(self): self.items = [self]
        def run():
            box = Box()
            box.n = 1
            box.items[0].n += 1
            box.items.clear()
            for x in [box]: pass
            del x
            (lambda b: b.items.append(1))(box)
            ref = weakref.ref(box)
            del box
            return ref() is None
    """)
    gc.disable()
    try:
        assert module.run()
        assert hear(module, module.run)[0] == ("returned", True)
    finally:
        gc.enable()


def test_functions_and_classes_stay_what_they_are(load: Load, hear: Hear) -> None:
    module = load("""
        import functools
        def wrapped(f):
            @functools.wraps(f)
            def wrapper(*args): return f(*args) + 1
            return wrapper
        class Box:
            def __init__(self): self.x = 1
            def get(self, a=1, *, b: int = 2): return self.x
            @staticmethod
            @wrapped
            def static(x): return x
        def look(): return Box, Box.get, look
    """)
    before = module.Box, module.Box.get, inspect.getsource(module.Box), inspect.signature(module.Box.get)
    box = pickle.loads(pickle.dumps(module.Box()))

    def inside() -> tuple[object, ...]:
        copy = pickle.loads(pickle.dumps(box))
        assert isinstance(copy, module.Box)
        return module.Box, module.Box.get, inspect.getsource(module.Box), inspect.signature(module.Box.get)

    outcome, heard = hear(module, inside)
    assert outcome == ("returned", before)
    assert heard == []
    (_, result), heard = hear(module, lambda: (module.Box.static(1), box.get()))
    assert result == (2, 1)
    assert heard == ["Box x:r"]


def test_a_partial_or_registered_function_is_reached(load: Load, hear: Hear) -> None:
    module = load("""
        import atexit, functools
        calls = {}
        class Box: x = 1
        def register(f): calls[f.__name__] = functools.partial(f, Box()); return None
        @register
        def hidden(box): box.x += 1; return box.x
    """)
    hidden = module.calls["hidden"]
    assert hear(module, hidden) == (("returned", 2), ["Box x:r & type x:r", "Box x:w", "Box x:r"])


def test_closures_made_before_and_during_the_run(load: Load, hear: Hear) -> None:
    module = load("""
        def counter():
            n = 0
            def up():
                nonlocal n
                n += 1
                return n
            return up
    """)
    up = module.counter()
    assert up() == 1
    (_, (value, inner)), heard = hear(module, lambda: (up(), module.counter()))
    assert (value, heard) == (2, ["cell n:r", "cell n:w", "cell n:r", "cell n:w"])
    # What was made during the run is as plain as the rest when it is over.
    assert inner.__code__ == up.__code__
    assert (inner(), up()) == (1, 3)


def test_weak_references_to_modules_functions_survive(load: Load, hear: Hear) -> None:
    module = load("def run(): return 1")
    reference = weakref.ref(module.run)
    code = module.run.__code__
    hear(module, module.run)
    assert reference() is module.run
    assert module.run.__code__ is code
