"""Plain memory: read, then written, with something in between."""

from __future__ import annotations

import threading
from typing import Any

from bugs import pair, pause, together


@pair("assertion", small=True)
def lost_update(repaired: bool) -> None:
    """Two increments, of which one is lost."""
    lock = threading.Lock()
    counter = 0

    def increment() -> None:
        nonlocal counter
        if repaired:
            lock.acquire()
        value = counter
        pause()
        counter = value + 1
        if repaired:
            lock.release()

    together(increment, increment)
    assert counter == 2


@pair("assertion", small=True)
def cache_filled_twice(repaired: bool) -> None:
    """Not in the dict: so it is made, by both."""
    lock = threading.Lock()
    cache: dict[str, object] = {}

    def look_up() -> object:
        if repaired:
            with lock:
                return make()
        return make()

    def make() -> object:
        if "key" not in cache:
            pause()
            cache["key"] = object()
        return cache["key"]

    found: list[object] = []
    together(lambda: found.append(look_up()), lambda: found.append(look_up()))
    assert found[0] is found[1]


@pair("exception", small=True)
def popped_from_an_empty_list(repaired: bool) -> None:
    """There was an item when it looked."""
    lock = threading.Lock()
    items = [1]

    def take() -> None:
        if repaired:
            lock.acquire()
        if items:
            pause()
            items.pop()
        if repaired:
            lock.release()

    together(take, take)


@pair("assertion", small=True)
def double_checked_locking(repaired: bool) -> None:
    """The second check was forgotten."""
    lock = threading.Lock()
    instances: list[object] = []

    def instance() -> None:
        if not instances:
            with lock:
                if not repaired or not instances:
                    instances.append(object())

    together(instance, instance)
    assert len(instances) == 1


@pair("exception", small=True)
def published_before_it_was_made(repaired: bool) -> None:
    """Others find the object before its fields are there."""
    lock = threading.Lock()
    shared: dict[str, dict[str, int]] = {}

    def publish() -> None:
        config: dict[str, int] = {}
        if not repaired:
            shared["config"] = config
        with lock:
            config["size"] = 1
        if repaired:
            shared["config"] = config

    def use() -> None:
        with lock:
            config = shared.get("config")
        if config is not None:
            assert config["size"] == 1

    together(publish, use)


@pair("assertion", small=True)
def lazy_initialisation(repaired: bool) -> None:
    """Says that it is initialised, then initialises."""
    state = {"ready": False, "value": 0}
    lock = threading.Lock()
    seen = []

    def value() -> int:
        if repaired:
            with lock:
                return initialised()
        return initialised()

    def initialised() -> int:
        if not state["ready"]:
            state["ready"] = True
            pause()
            state["value"] = 42
        return state["value"]

    together(lambda: seen.append(value()), lambda: seen.append(value()))
    assert seen == [42, 42]


@pair("livelock", max_steps=200)
def stop_before_start(repaired: bool) -> None:
    """A stop that comes before the worker has begun is overwritten."""
    running = repaired

    def work() -> None:
        nonlocal running
        if not repaired:
            running = True
        while running:
            pause()

    def stop() -> None:
        nonlocal running
        running = False

    together(work, stop)


@pair("assertion", small=True)
def aba(repaired: bool) -> None:
    """A stack by compare-and-swap: the head is the same as before, what lies below it is not."""
    lock = threading.Lock()
    below: dict[str, str] = {"a": "b", "b": "c", "c": ""}
    head = (0, "a")
    owned: list[str] = []

    def swap(old: tuple[int, str], new: str) -> bool:
        nonlocal head
        with lock:
            if head != old if repaired else head[1] != old[1]:
                return False
            head = (head[0] + 1, new)
            return True

    def pop() -> str:
        while True:
            old = head
            new = below[old[1]]
            if swap(old, new):
                owned.append(old[1])
                return old[1]

    def pop_two_and_push_one() -> None:
        first = pop()
        pop()
        owned.remove(first)
        while True:
            old = head
            below[first] = old[1]
            if swap(old, first):
                return

    together(pop, pop_two_and_push_one)
    node = head[1]
    while node:
        owned.append(node)
        node = below[node]
    assert sorted(owned) == ["a", "b", "c"]


@pair("assertion")
def peterson(repaired: bool) -> None:
    """Mutual exclusion by Peterson, with the two writes in the wrong order."""
    wants = [False, False]
    turn = 0
    inside: list[int] = []
    violated = []

    def enter(me: int) -> None:
        nonlocal turn
        if repaired:
            wants[me] = True
            pause()
            turn = 1 - me
        else:
            turn = 1 - me
            pause()
            wants[me] = True
        pause()
        while wants[1 - me] and turn == 1 - me:
            pause()
        inside.append(me)
        pause()
        violated.append(len(inside) > 1)
        inside.remove(me)
        wants[me] = False

    together(lambda: enter(0), lambda: enter(1))
    assert not any(violated)


@pair("exception", small=True)
def changed_while_iterated(repaired: bool) -> None:
    """One walks through the dict, with steps in between; another one adds to it."""
    sessions = {1: "a", 2: "b"}

    def report() -> None:
        for _ in list(sessions) if repaired else sessions:
            pause()

    def log_in() -> None:
        sessions[3] = "c"

    together(report, log_in)


@pair("assertion", small=True)
def one_context_for_all(repaired: bool) -> None:
    """What belongs to a thread is kept where all threads see it."""

    class Shared:
        request = ""

    context: Any = threading.local() if repaired else Shared()
    answers = {}

    def serve(request: str) -> None:
        context.request = request
        pause()
        answers[request] = context.request

    together(lambda: serve("a"), lambda: serve("b"))
    assert answers == {"a": "a", "b": "b"}


@pair("assertion", small=True)
def closed_twice(repaired: bool) -> None:
    """The last user closes, and two think that they are the last."""
    lock = threading.Lock()
    users, closed = 2, 0

    def leave() -> None:
        nonlocal users, closed
        with lock:
            users -= 1
            is_last = users == 0
        pause()
        if is_last if repaired else users == 0:
            closed += 1

    together(leave, leave)
    assert closed == 1
