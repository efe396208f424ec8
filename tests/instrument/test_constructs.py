"""Construct by construct: what is announced, whole, and that the outcome is the plain run's."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from greenthreads.testing._private import private_names
from greenthreads.testing._scopes import analyse

Check = Callable[..., list[str]]


def test_an_attribute_is_read_set_and_deleted(check: Check) -> None:
    assert check("""
        class Box: pass
        def run():
            box = Box()
            box.x = 1
            y = box.x
            box.x: int = 5
            del box.x
            return y, hasattr(box, "x")
    """) == ["Box x:w", "Box x:r", "Box x:w", "Box x:w", "Box x:r"]


def test_a_missing_attribute_raises_where_it_did(check: Check) -> None:
    assert check(
        """
        class Box: pass
        def run():
            box = Box()
            return (box
                    .missing)
        """,
        AttributeError,
    ) == ["Box missing:r"]


def test_augmented_assignment_to_an_attribute_reads_then_writes(check: Check) -> None:
    assert check("""
        class Box:
            def __init__(self): self.n = 1
        def make(): return box
        def run():
            global box
            box = Box()
            box.n += 1
            make().n *= 5
            return box.n
    """) == [
        "Box n:w", "dict box:w",
        "dict box:r", "Box n:r", "Box n:w",
        "dict box:r", "Box n:r", "Box n:w",
        "dict box:r", "Box n:r",
    ]  # fmt: skip


def test_slots_are_attributes(check: Check) -> None:
    assert check("""
        class Point:
            __slots__ = ("x", "__hidden")
            def __init__(self): self.x = 1; self.__hidden = 2
            def sum(self): return self.x + self.__hidden
        def run(): return Point().sum()
    """) == ["Point x:w", "Point _Point__hidden:w", "Point x:r", "Point _Point__hidden:r"]


def test_a_class_variable_is_read_from_both_and_written_to_the_instance(check: Check) -> None:
    assert check("""
        class Counted:
            n = 0
        def run():
            c = Counted()
            c.n += 1
            Counted.n = 7
            return c.n, Counted.n, Counted().n
    """) == [
        "Counted n:r & type n:r", "Counted n:w", "type n:w", "Counted n:r", "type n:r", "Counted n:r & type n:r",
    ]  # fmt: skip


def test_a_property_announces_what_its_code_touches(check: Check) -> None:
    assert check("""
        class Box:
            def __init__(self): self._x = 1
            @property
            def x(self): return self._x
            @x.setter
            def x(self, value): self._x = value
        def run():
            box = Box()
            box.x += 1
            return box.x
    """) == ["Box _x:w", "Box _x:r", "Box _x:w", "Box _x:r"]


def test_a_method_replaced_on_an_instance_is_an_attribute_from_then_on(check: Check) -> None:
    assert check("""
        class Box:
            def get(self): return 1
        def run():
            box = Box()
            first = box.get()
            box.get = lambda: 2
            return first, box.get()
    """) == ["Box get:w", "Box get:r"]


def test_getattr_and_setattr_by_name(check: Check) -> None:
    assert check("""
        class Box:
            def __getattr__(self, name): return name
        def run():
            box = Box()
            setattr(box, "x", 1)
            delattr(box, "x")
            return getattr(box, "x"), getattr(box, "y", 3), box.z
    """) == ["Box x:w", "Box x:w", "Box x:r", "Box y:r", "Box z:r"]


def test_a_cached_property_is_written_once(check: Check) -> None:
    assert check("""
        import functools
        class Box:
            @functools.cached_property
            def x(self): return 5
        def run():
            box = Box()
            return box.x + box.x
    """) == ["Box x:w", "Box x:r"]


def test_what_is_each_threads_own_is_not_announced(check: Check) -> None:
    assert check("""
        import threading
        def run():
            own = threading.local()
            own.x = 1
            return own.x
    """) == []


def test_globals(check: Check) -> None:
    assert check("""
        count = 0
        LIMIT = 3
        def helper(): return LIMIT
        def run():
            global count, extra
            count = 1
            count += helper()
            extra = 5
            del extra
            return count
    """) == ["dict count:w", "dict count:r", "dict LIMIT:r", "dict count:w", "dict extra:w", "dict extra:w",
             "dict count:r"]  # fmt: skip


def test_an_unbound_global_raises_what_it_did(check: Check) -> None:
    assert check("def run(): return nowhere", NameError) == ["dict nowhere:r"]


def test_attributes_of_a_module_are_its_globals(check: Check) -> None:
    assert check("""
        import sys
        me = sys.modules[__name__]
        value = 0
        def run():
            global value
            me.value = 1
            me.value += 1
            return value, me.run is run
    """) == ["dict me:r", "dict value:w", "dict me:r", "dict value:r", "dict value:w", "dict value:r", "dict me:r"]


def test_closure_variables(check: Check) -> None:
    assert check("""
        def counter(start):
            n = start
            def up(by):
                nonlocal n
                n += by
                return n
            return up
        def run():
            up, other = counter(0), counter(10)
            return up(1), up(2), other(1)
    """) == ["cell n:w"] * 2 + ["cell n:r", "cell n:w", "cell n:r"] * 3


def test_an_unbound_closure_variable_raises_what_it_did(check: Check) -> None:
    assert check(
        """
        def run():
            def inner(): return later
            inner()
            later = 1
        """,
        NameError,
    ) == ["cell later:r"]


def test_what_is_bound_once_and_for_all_is_not_announced(check: Check) -> None:
    assert check("""
        import math
        class Helper: pass
        def function(parameter):
            def inner(): return parameter, inner.__name__, math.floor(1.5), Helper.__name__
            return inner
        def run(): return function(1)()
    """) == []


def test_locals_that_nobody_captures_are_not_announced(check: Check) -> None:
    assert check("""
        def run():
            x = 1
            y = [x + i for i in range(3)]
            x += sum(z for z in (1, 2) if z < x + 1)
            return x, y
    """) == []


def test_items_of_a_list(check: Check) -> None:
    assert check("""
        def run():
            l = [1, 2, 3]
            l[0] = l[-1]
            l[1] += 5
            del l[0]
            x = l[0:2]
            l[0:1] = [8, 9]
            return l, x, 9 in l, len(l), l[1]
    """) == [
        "list 2:r SIZE:r", "list 0:w", "list 1:r", "list 1:w", "list WHOLE:w", "list WHOLE:r", "list WHOLE:w",
        "list WHOLE:r", "list SIZE:r", "list 1:r",
    ]  # fmt: skip


def test_items_of_a_list_that_are_not_there(check: Check) -> None:
    assert check("def run(l=[1]): return l[3]", IndexError) == ["list SIZE:r"]


def test_items_of_a_dict(check: Check) -> None:
    assert check("""
        def run():
            d = {"a": 1}
            if "b" not in d:
                d["b"] = 2
            d["a"] += 1
            d["a"] = d.get("z", 7)
            del d["b"]
            return d["a"], len(d), d.setdefault("c", 4), d.pop("c"), d.pop("none", None)
    """) == [
        "dict b:r", "dict b:w SIZE:w", "dict a:r", "dict a:w", "dict z:r", "dict a:w", "dict b:w SIZE:w", "dict a:r",
        "dict SIZE:r", "dict c:w SIZE:w", "dict c:w SIZE:w", "dict none:r",
    ]  # fmt: skip


def test_a_key_that_only_the_program_can_compare_stands_for_the_whole(check: Check) -> None:
    assert check("""
        class Key:
            def __eq__(self, other): return True
            def __hash__(self): return 1
        def run():
            d = {}
            d[Key()] = 1
            return d[Key()], d[(1, "a")] if (1, "a") in d else None
    """) == ["dict WHOLE:w", "dict WHOLE:r", "dict (1, 'a'):r"]


def test_methods_of_a_list(check: Check) -> None:
    assert check("""
        def run():
            l = [3]
            l.append(1)
            l.extend((7, 8))
            l.extend(l)
            l.insert(0, 9)
            l.sort()
            return l.pop(), l.pop(0), l.index(3), l.count(3), l.copy(), l.clear(), l.reverse(), l
    """) == [
        "list 1:w SIZE:w", "list 2:w 3:w SIZE:w", "list 4:w 5:w 6:w 7:w SIZE:w", "list WHOLE:w", "list WHOLE:w",
        "list 8:w SIZE:w", "list WHOLE:w", "list WHOLE:r", "list WHOLE:r", "list WHOLE:r", "list WHOLE:w",
        "list WHOLE:w",
    ]  # fmt: skip


def test_methods_of_a_dict(check: Check) -> None:
    assert check("""
        def run():
            d = {}
            d.update(a=1)
            d.update({"b": 2})
            return d.popitem(), list(d.items()), dict(d), d.copy(), d.clear(), d | {}, list(d), sorted(d.keys())
    """) == [
        "dict WHOLE:r & dict a:w SIZE:w", "dict WHOLE:r & dict b:w SIZE:w", "dict b:w SIZE:w", "dict WHOLE:r",
        "dict WHOLE:r", "dict WHOLE:r", "dict WHOLE:w", "dict WHOLE:r & dict WHOLE:r", "dict WHOLE:r", "dict WHOLE:r",
    ]  # fmt: skip


def test_methods_of_a_set(check: Check) -> None:
    assert check("""
        def run():
            s = {1}
            s.add(1)
            s.add(2)
            s.discard(1)
            s.discard(5)
            return s.union({3}), s & {2}, 2 in s, len(s), s.pop(), s
    """) == [
        "set 1:w", "set 2:w SIZE:w", "set 1:w SIZE:w", "set 5:r", "set WHOLE:r & set WHOLE:r",
        "set WHOLE:r & set WHOLE:r", "set 2:r", "set SIZE:r", "set WHOLE:w",
    ]  # fmt: skip


def test_other_containers(check: Check) -> None:
    assert check("""
        from array import array
        from collections import Counter, OrderedDict, defaultdict, deque
        def run():
            q = deque([1]); q.append(2); q.appendleft(0); q.popleft()
            bounded = deque(maxlen=1); bounded.append(1)
            o = OrderedDict(a=1); o["b"] = 2; o.move_to_end("a"); o.popitem(last=False)
            f = defaultdict(list); f["k"].append(1)
            c = Counter(); c["x"] += 1; c.update("ab"); c.most_common(1)
            b = bytearray(b"ab"); b[0] = 1; b.append(3); b += b"c"
            a = array("i", [1]); a.append(2); a[0] += 1
            return q, o, f, c, b, a
    """) == [
        "list WHOLE:r", "deque 1:w SIZE:w", "deque WHOLE:w", "deque WHOLE:w", "deque WHOLE:w",
        "OrderedDict b:w SIZE:w", "OrderedDict WHOLE:w", "OrderedDict WHOLE:w",
        "defaultdict k:w SIZE:w", "list 0:w SIZE:w",
        "Counter x:r", "Counter x:w SIZE:w", "Counter WHOLE:w", "Counter WHOLE:r",
        "bytearray 0:w", "bytearray 2:w SIZE:w", "bytearray 3:w SIZE:w",
        "list WHOLE:r", "array 1:w SIZE:w", "array 0:r", "array 0:w",
    ]  # fmt: skip


def test_whether_a_container_is_empty_is_looked_at(check: Check) -> None:
    # On Python 3.10 a deque has a `__bool__` of C beside its `__len__`.
    assert check("""
        from array import array
        from collections import deque
        class Mine(deque):
            pass
        class Always(deque):
            def __bool__(self):
                return True
        def run():
            mine, always = Mine(), Always()
            return [not x for x in ([], {}, set(), deque(), bytearray(), array("i"), mine, always)]
    """) == [
        "list SIZE:r", "dict SIZE:r", "set SIZE:r", "deque SIZE:r", "bytearray SIZE:r", "array SIZE:r", "Mine SIZE:r",
    ]  # fmt: skip


def test_a_subclass_keeps_what_it_does_not_override(check: Check) -> None:
    assert check("""
        class Mine(dict):
            def __setitem__(self, key, value):
                super().__setitem__(key, value + 1)
        def run():
            m = Mine()
            m["a"] = 1
            dict.__setitem__(m, "b", 5)
            return m["a"], m.get("b")
    """) == ["Mine a:w SIZE:w", "Mine b:w SIZE:w", "Mine a:r", "Mine b:r"]


def test_bound_methods_stored_earlier(check: Check) -> None:
    assert check("""
        import functools
        class Holder:
            def __init__(self, l): self.put = l.append
        def run():
            l = []
            append = l.append
            append(1)
            holder = Holder(l)
            holder.put(2)
            functools.partial(l.append, 3)()
            list.append(l, 4)
            (lambda call: call(5))(append)
            return l
    """) == [
        "list 0:w SIZE:w", "Holder put:w", "Holder put:r", "list 1:w SIZE:w", "list 2:w SIZE:w", "list 3:w SIZE:w",
        "list 4:w SIZE:w",
    ]  # fmt: skip


def test_built_ins_that_read_a_container(check: Check) -> None:
    assert check("""
        from heapq import heappush
        def run():
            l = [2, 1]
            heappush(l, 0)
            it = iter(l)
            return (sorted(l), sum(l), max(l), any(l), list(zip(l, l)), tuple(map(str, l)), ",".join(map(str, l)),
                    bool(l), next(it), str(l), f"{l!r:>3}", "%s" % (l,), "{}".format(l), [*l], dict.fromkeys(l))
    """) == ["list WHOLE:w"] + ["list WHOLE:r"] * 4 + [
        "zip WHOLE:w & list WHOLE:r", "map WHOLE:w & list WHOLE:r", "map WHOLE:w & list WHOLE:r", "list SIZE:r",
        "list WHOLE:r & list_iterator WHOLE:w",
    ] + ["list WHOLE:r"] * 6  # fmt: skip


def test_operators_on_containers(check: Check) -> None:
    assert check("""
        def run():
            a, b = [1], [1]
            same = a == b
            c = a + b
            d = a * 2
            a += b
            less = a < [5] < c
            return same, c, d, a, less, not a, a and b, 1 if b else 2, a is b
    """) == [
        "list WHOLE:r & list WHOLE:r", "list WHOLE:r & list WHOLE:r", "list WHOLE:r",
        "list WHOLE:r", "list 1:w SIZE:w", "list WHOLE:r", "list WHOLE:r", "list WHOLE:r", "list SIZE:r",
        "list SIZE:r", "list SIZE:r",
    ]  # fmt: skip


def test_truth_is_the_size(check: Check) -> None:
    assert check("""
        def run():
            l = []
            n = 0
            while not l:
                l.append(n)
            if l and n == 0:
                n = 1 if l else 2
            assert l or n
            return [m for m in (1,) if l]
    """) == ["list SIZE:r", "list 0:w SIZE:w"] + ["list SIZE:r"] * 5


def test_iteration_step_by_step(check: Check) -> None:
    assert check("""
        def run():
            seen = []
            for x in ["a", "b"]: seen += x
            for k in {1: 2}: pass
            for k, v in {1: 2}.items(): pass
            for x in {7}: pass
            for i, x in enumerate([5]): pass
            for x in range(3): pass
            return seen
    """) == [
        "list SIZE:r", "list SIZE:r 0:r", "list 0:w SIZE:w", "list SIZE:r 1:r", "list 1:w SIZE:w", "list SIZE:r",
        "dict SIZE:r", "dict SIZE:r", "dict SIZE:r",
        "dict SIZE:r", "dict SIZE:r 1:r", "dict SIZE:r",
        "set SIZE:r", "set SIZE:r", "set SIZE:r",
        "list SIZE:r 0:r", "list SIZE:r",
    ]  # fmt: skip


def test_iteration_in_comprehensions_and_generators(check: Check) -> None:
    assert check("""
        def each(l):
            for x in l: yield x
            yield from l
        def run():
            l = [1]
            return [x for x in l], {x: y for x in l for y in l}, list(x for x in l), list(each(l))
    """) == [
        "list SIZE:r", "list SIZE:r 0:r", "list SIZE:r",
        "list SIZE:r", "list SIZE:r 0:r", "list SIZE:r", "list SIZE:r 0:r", "list SIZE:r", "list SIZE:r",
        "list SIZE:r", "list SIZE:r 0:r", "list SIZE:r",
        "generator WHOLE:w", "list SIZE:r", "list SIZE:r 0:r", "list SIZE:r", "list WHOLE:r",
    ]  # fmt: skip


def test_a_list_that_changes_while_it_is_iterated(check: Check) -> None:
    assert check("""
        def run():
            l = [1, 2]
            for x in l:
                if len(l) < 4: l.append(x)
            return l
    """) == [
        "list SIZE:r",
        "list SIZE:r 0:r", "list SIZE:r", "list 2:w SIZE:w",
        "list SIZE:r 1:r", "list SIZE:r", "list 3:w SIZE:w",
        "list SIZE:r 2:r", "list SIZE:r", "list SIZE:r 3:r", "list SIZE:r", "list SIZE:r",
    ]  # fmt: skip


def test_a_dict_that_changes_while_it_is_iterated_raises_what_it_did(check: Check) -> None:
    assert check(
        """
        def run():
            d = {1: 1}
            for k, v in d.items():
                d[2] = 2
        """,
        RuntimeError,
    ) == ["dict SIZE:r", "dict SIZE:r 1:r", "dict 2:w SIZE:w", "dict SIZE:r"]


def test_an_iterator_that_others_may_step(check: Check) -> None:
    assert check("""
        def naturals():
            n = 0
            while True:
                yield n
                n += 1
        def run():
            it = iter([1, 2, 3])
            for x in it: break
            numbers = naturals()
            for n in numbers: break
            return x, next(it), next(numbers)
    """) == [
        "list WHOLE:r & list_iterator WHOLE:w", "generator WHOLE:w", "list WHOLE:r & list_iterator WHOLE:w",
        "generator WHOLE:w",
    ]  # fmt: skip


def test_an_iterator_of_which_a_part_is_used_up(check: Check) -> None:
    assert check("""
        from itertools import zip_longest
        def run():
            pairs = zip_longest([1], [1, 2])
            next(pairs), next(pairs)
            return [pair for pair in pairs]
    """) == ["zip_longest WHOLE:w"] * 3


def test_unpacking(check: Check) -> None:
    assert check("""
        class Box: pass
        def several(*args, **kwargs): return args, kwargs
        def run():
            l, d, box = [1, 2], {"k": 3}, Box()
            a, *b = l
            box.x, l[0], (c, d["n"]) = 5, 6, (7, 8)
            l[0], l[1] = l[1], l[0]
            return a, b, c, box.x, several(*l, **d), [*l, 1], {**d}
    """) == [
        "list WHOLE:r", "Box x:w", "list 0:w", "dict n:w SIZE:w", "list 1:r", "list 0:r", "list 0:w", "list 1:w",
        "Box x:r", "list WHOLE:r", "dict WHOLE:r", "list WHOLE:r", "dict WHOLE:r",
    ]  # fmt: skip


def test_walrus(check: Check) -> None:
    assert check("""
        def run():
            global g
            if (g := 5) > 3 and [g := y for y in (1, 2)]:
                return g
    """) == ["dict g:w", "dict g:w", "dict g:w", "dict g:r"]


def test_with_and_context_managers(check: Check) -> None:
    assert check("""
        class Manager:
            def __enter__(self): self.n = 1; return self
            def __exit__(self, *exc): self.n = 0; return True
        def run():
            global held
            with Manager() as held:
                held.n += 1
            with Manager() as held, Manager() as inner:
                raise ValueError
            return held.n
    """) == [
        "Manager n:w", "dict held:w", "dict held:r", "Manager n:r", "Manager n:w", "Manager n:w",
        "Manager n:w", "Manager n:w", "Manager n:w", "Manager n:w",
        "dict held:r", "Manager n:r",
    ]  # fmt: skip


def test_match(check: Check) -> None:
    assert check("""
        class Point:
            __match_args__ = ("x",)
            def __init__(self): self.x, self.y = 1, 2
        def kind(v):
            match v:
                case [a, b]: return a, b
                case {"k": k, **rest}: return k, rest
                case Point(y=y): return y
                case _: return None
        def run(): return kind([1, 2]), kind({"k": 3, "l": 4}), kind(Point()), kind(5)
    """) == ["list WHOLE:r", "dict WHOLE:r", "Point x:w", "Point y:w", "Point y:r"]


def test_decorators_and_classes(check: Check) -> None:
    assert check("""
        registry = []
        def register(thing): registry.append(thing.__name__); return thing
        def run():
            @register
            def f(): pass
            @register
            class C:
                items = [len(registry)]
                def get(self): return super().__class__, self.items[0]
            return C().get()[1]
    """) == [
        "dict registry:r", "list 0:w SIZE:w", "dict registry:r", "list SIZE:r", "dict registry:r", "list 1:w SIZE:w",
        "C items:r & type items:r", "list 0:r",
    ]  # fmt: skip


def test_loop_variables_that_a_closure_captures(check: Check) -> None:
    assert check("""
        def run():
            calls = same = []
            for i in (1, 2): calls.append(lambda: i)
            return [call() for call in calls]
    """) == [
        "cell i:w", "list 0:w SIZE:w", "cell i:w", "list 1:w SIZE:w",
        "list SIZE:r", "list SIZE:r 0:r", "cell i:r", "list SIZE:r 1:r", "cell i:r", "list SIZE:r",
    ]  # fmt: skip


def test_a_container_that_one_function_alone_knows_is_nobody_elses(check: Check) -> None:
    assert check("""
        def run():
            items = [1, 2]
            table: dict = {n: n for n in items}
            for n in items:
                items[0]
                table[1]
                if len(items) < 3: items.append(n)
            return tuple([n + 1 for n in items]), {key for key in table}
    """) == ["list WHOLE:r"]  # What `tuple` is given.
    assert check("def run(): l = [1]; return l[3]", IndexError) == []


@pytest.mark.parametrize(
    "use",
    [
        "return items",
        "same = items",
        "items = items",
        "inner = lambda: items",
        "class Inner: kept = items",
        "print(end='', *items)",
        "later = (n for n in items)",
        "later = ([n for n in items] for _ in (1,))",
        "items, other = [], 1",
        "for items in ((1,),): pass",
        "global items",
        "nonlocal items",
        "yield",
        "locals()",
        "items[0] = 3",
        "del items",
        "items += [3]",
        "(items := [1])",
        "items.append(items)",
        "with open(__file__) as items: pass",
        "try: pass\n    except E as items: pass",
        "match 1:\n        case items: pass",
        "import sys as items",
    ],
)
def test_what_else_may_know_it(use: str) -> None:
    outer = "def outer():\n  items = 0\n  def run():\n    " if use.startswith("nonlocal") else "def run():\n    "
    source = f"{outer}items = [1, 2]\n    for n in items: len(items)\n    {use}\n"
    if use.startswith(("nonlocal", "global")):
        source = f"{outer}{use}\n    items = [1, 2]\n    for n in items: len(items)\n"
    tree = ast.parse(source)
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run")
    assert private_names(function, analyse(tree)[function]) == frozenset()
    tree = ast.parse("def run():\n    items = [1, 2]\n    for n in items: len(items)\n")
    function = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert private_names(function, analyse(tree)[function]) == {"items"}


def test_async_code_is_left_alone(check: Check) -> None:
    assert check("""
        import asyncio
        shared = [0]
        async def work():
            shared[0] += 1
            return [x async for x in numbers()]
        async def numbers():
            yield 1
        def run(): return asyncio.run(work())
    """) == []


@pytest.mark.parametrize("notes", [True])
def test_values_are_told(load: Callable[..., object], hear: Callable[..., object], notes: bool) -> None:
    module = load("""
        n = 1
        class Box: pass
        def run():
            global n
            box = Box()
            box.x = [5]
            box.x[0] += n
            d = {}
            d["k"] = box.x.pop()
            n = d.get("k")
            return len(d)
    """)
    _outcome, heard = hear(module, module.run, notes=notes)  # type: ignore[attr-defined, operator, misc]
    assert heard == [
        "Box x:w", "= [5]",
        "Box x:r", "= [5]", "list 0:r", "= 5", "dict n:r", "= 1", "list 0:w", "= 6",
        "Box x:r", "= [6]", "list 0:w SIZE:w", "= 6", "dict k:w SIZE:w", "= 6",
        "dict k:r", "= 6", "dict n:w", "= 6", "dict SIZE:r", "= 1",
    ]  # fmt: skip
