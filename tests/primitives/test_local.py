"""`local`: attributes of their own for each thread of either kind, for as long as the thread lives."""

from __future__ import annotations

import copy
import gc
import operator
import threading
import weakref
from typing import Any, ClassVar

import pytest

from greenthreads import Event, Thread, get_ident, local, run_in_kernel_thread, run_scheduler, yield_now
from greenthreads.carriers import Kind


class Thing:
    """Something that can be referred to weakly."""


def test_threads_see_their_own_values_only(pair: Any) -> None:
    mine = local()
    record: list[object] = []

    def other() -> None:
        record.append(hasattr(mine, "value"))
        mine.value = "other's"
        yield_now()
        record.append(mine.value)

    def main() -> None:
        mine.value = "main's"
        thread = pair.start(other)
        yield_now()
        thread.join()
        record.append(mine.value)

    pair.run(main)
    assert record == [False, "other's", "main's"]


def test_user_threads_that_alternate_keep_their_values_apart() -> None:
    mine = local()
    record: list[object] = []

    def work(name: str) -> None:
        for turn in range(3):
            mine.value = (name, turn)
            yield_now()
            record.append(mine.value)

    def main() -> None:
        for name in "ab":
            Thread(target=work, args=(name,)).start()

    run_scheduler(main)
    assert record == [(name, turn) for turn in range(3) for name in "ab"]


def test_the_next_thread_on_the_same_stack_finds_nothing() -> None:
    mine = local()
    record: list[object] = []

    def work() -> None:
        record.append(getattr(mine, "value", None))
        mine.value = "left behind"

    def main() -> None:
        for _ in range(3):
            thread = Thread(target=work)
            thread.start()
            thread.join()

    run_scheduler(main)
    assert record == [None, None, None]


class Counted(local):
    """A subclass as the documentation of threading has it."""

    made: ClassVar[list[tuple[object, ...]]] = []
    number = 2

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.made.append((get_ident(), args, kwargs))
        self.args = args

    def square(self) -> int:
        return self.number**2


def test_a_subclass_is_initialised_in_each_thread_with_the_first_arguments(pair: Any) -> None:
    Counted.made.clear()
    record: list[object] = []

    def other() -> None:
        record.append((mine.args, mine.number, mine.square()))
        mine.number = 5
        record.append((mine.number, mine.square()))

    def main() -> None:
        thread = pair.start(other)
        thread.join()
        record.append((mine.args, mine.number, mine.square()))

    mine = Counted("first", key="word")
    pair.run(main)
    assert record == [(("first",), 2, 4), (5, 25), (("first",), 2, 4)]
    idents = [each[0] for each in Counted.made]
    assert len(set(idents)) == len(idents) == 2
    assert [each[1:] for each in Counted.made] == [(("first",), {"key": "word"})] * 2


def test_an_init_that_fails_leaves_nothing_and_is_tried_again(kind: Kind, outcome: Any) -> None:
    class Picky(local):
        refuses: bool

        def __init__(self) -> None:
            self.half = True
            if calls and calls.pop():
                raise ValueError("not yet")

    calls: list[bool] = []
    mine = Picky()
    record: list[object] = []

    def work() -> None:
        calls.append(True)
        record.append(outcome(lambda: mine.half))
        record.append(outcome(lambda: mine.half))

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        thread.join()

    run_scheduler(main)
    assert record == [(ValueError, "not yet"), ("returned", True)]


def test_slots_and_properties_of_a_subclass_are_the_class_s_business(pair: Any, outcome: Any) -> None:
    """What stands in a slot is shared by all threads, as with threading."""

    class Slotted(local):
        __slots__ = ("shared",)
        shared: object

        @property
        def doubled(self) -> object:
            return self.own * 2

        @doubled.setter
        def doubled(self, value: int) -> None:
            self.own = value // 2

    mine = Slotted()
    record: list[object] = []

    def other() -> None:
        record.append((mine.shared, hasattr(mine, "own")))
        mine.doubled = 10
        record.append((mine.own, mine.doubled))

    def main() -> None:
        mine.shared, mine.own = "for all", 1
        pair.start(other).join()
        record.append((mine.own, mine.doubled))
        del mine.shared
        record.append(hasattr(mine, "shared"))

    pair.run(main)
    assert record == [("for all", False), (5, 10), (1, 2), False]


def test_values_go_when_their_thread_ends(kind: Kind) -> None:
    mine = local()
    things: list[weakref.ref[Thing]] = []
    record: list[object] = []

    def work() -> None:
        thing = Thing()
        mine.thing = thing
        things.append(weakref.ref(thing))

    def main() -> None:
        threads = [Thread(target=work, kind=kind) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        record.append([thing() for thing in things])

    run_scheduler(main)
    assert record == [[None] * 5]


def test_values_of_a_standard_thread_go_when_it_ends() -> None:
    mine = local()
    thing = Thing()
    reference = weakref.ref(thing)

    def work(thing: Thing) -> None:
        mine.thing = thing

    thread = threading.Thread(target=work, args=(thing,))
    del thing
    thread.start()
    thread.join()
    gc.collect()
    assert reference() is None


def test_values_of_a_pooled_kernel_thread_go_when_the_call_ends() -> None:
    mine = local()

    def call() -> object:
        found = getattr(mine, "value", None)
        mine.value = "left behind"
        return found

    assert run_scheduler(lambda: [run_in_kernel_thread(call) for _ in range(3)]) == [None] * 3


def test_a_local_that_nobody_has_goes_with_all_its_values(kind: Kind) -> None:
    record: list[object] = []
    done, go = Event(), Event()

    def work(mine: list[Any]) -> None:
        mine[0].thing = thing = Thing()
        record.append(weakref.ref(thing))
        del thing
        done.set()
        go.wait()

    def main() -> None:
        mine = [local()]
        thread = Thread(target=work, args=(mine,), kind=kind)
        thread.start()
        done.wait()
        mine.clear()
        gc.collect()
        record[0] = record[0]()
        go.set()
        thread.join()

    run_scheduler(main)
    assert record == [None]


def test_a_local_that_refers_to_itself_through_a_value_goes() -> None:
    mine = local()
    mine.me = mine
    reference = weakref.ref(mine)
    del mine
    gc.collect()
    assert reference() is None


def test_the_main_thread_has_its_values_inside_and_outside_of_its_scheduler() -> None:
    mine = local()
    mine.value = "outside"

    def main() -> list[object]:
        seen = [mine.value]
        mine.value = "inside"
        return seen

    assert run_scheduler(main) == ["outside"]
    assert mine.value == "inside"


class Plain:
    """Has nothing but attributes."""


USES = {
    "read a missing one": lambda thing: thing.missing,
    "delete a missing one": lambda thing: delattr(thing, "missing"),
    "set and read": lambda thing: setattr(thing, "x", 1) or thing.x,
    "set, delete and read": lambda thing: (setattr(thing, "x", 1), delattr(thing, "x"), getattr(thing, "x", "gone"))[2],
    "__dict__": lambda thing: setattr(thing, "x", 1) or thing.__dict__,
    "set __dict__": lambda thing: setattr(thing, "__dict__", {}),
    "delete __dict__": lambda thing: delattr(thing, "__dict__"),
    "vars": vars,
    "length": len,
    "item": lambda thing: thing["x"],
    "set an item": lambda thing: operator.setitem(thing, "x", 1),
    "delete an item": lambda thing: operator.delitem(thing, "x"),
    "merge": lambda thing: thing | {},
    "merge into": lambda thing: {} | thing,
    "merge in place": lambda thing: operator.ior(thing, {}),
    "reverse": lambda thing: list(reversed(thing)),
    "a dict of it": dict,
    "smaller": lambda thing: thing < thing,
    "iterate": list,
    "contains": lambda thing: "x" in thing,
    "keys": lambda thing: thing.keys(),
    "truth": bool,
    "equal to itself": lambda thing: thing == thing,
    "equal to another": lambda thing: thing == type(thing)(),
    "hash": lambda thing: hash(thing) == hash(thing),
    "copy": lambda thing: type(copy.copy(thing)).__name__,
    "arguments": lambda thing: type(thing)(1),
    "key word arguments": lambda thing: type(thing)(a=1),
    "class": lambda thing: thing.__class__ is type(thing),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_it_is_used_as_threading_s_is(use: Any, kind: Kind, outcome: Any) -> None:
    def in_thread() -> list[object]:
        record: list[object] = []
        thread = Thread(target=lambda: record.append(outcome(use, local())), kind=kind)
        thread.start()
        thread.join()
        return record

    expected = outcome(use, threading.local())
    (found,) = run_scheduler(in_thread)
    assert found[0] == expected[0]
    if expected[0] == "returned":
        assert found[1] == expected[1]
    elif expected[0] is AttributeError:
        ours = "'local' object has no attribute 'missing'"
        assert found[1] in (str(expected[1]).replace("_thread._local", "local"), ours)
