"""Lists, dicts, sets and deques, in ordinary code: each operation is whole, what is made of several is not."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from bugs import guard, pair, together

if TYPE_CHECKING:
    from collections.abc import Callable


@pair("assertion", memory=True)
def item_of_a_dict_incremented(repaired: bool) -> None:
    """Read, added, written."""
    counts = {"a": 0}
    lock = guard(repaired)

    def count() -> None:
        with lock:
            counts["a"] += 1

    together(count, count)
    assert counts == {"a": 2}


@pair("assertion", memory=True)
def item_of_a_list_incremented(repaired: bool) -> None:
    """The same, of a list."""
    slots = [0, 0]
    lock = guard(repaired)

    def count() -> None:
        with lock:
            slots[1] += 1

    together(count, count)
    assert slots == [0, 2]


@pair("assertion", memory=True)
def words_counted_by_get(repaired: bool) -> None:
    """`get` with a default, then a store: two operations, each of which is whole."""
    counts: dict[str, int] = {}
    lock = guard(repaired)

    def count(word: str) -> None:
        with lock:
            counts[word] = counts.get(word, 0) + 1

    together(lambda: count("a"), lambda: count("a"))
    assert counts == {"a": 2}


@pair("assertion", memory=True)
def item_of_an_own_container(repaired: bool) -> None:
    """`matrix[key] += 1` by way of `__getitem__` and `__setitem__`."""
    lock = guard(repaired)

    class Sparse:
        def __init__(self) -> None:
            self.values: dict[tuple[int, int], int] = {}

        def __getitem__(self, key: tuple[int, int]) -> int:
            return self.values.get(key, 0)

        def __setitem__(self, key: tuple[int, int], value: int) -> None:
            self.values[key] = value

    matrix = Sparse()

    def add() -> None:
        with lock:
            matrix[0, 1] += 1

    together(add, add)
    assert matrix[0, 1] == 2


@pair("assertion", memory=True)
def if_not_in_for_setdefault(repaired: bool) -> None:
    """No list yet: the second new list takes the place of the first, with what is in it."""
    groups: dict[str, list[int]] = {}

    def add(number: int) -> None:
        if repaired:
            groups.setdefault("odd", []).append(number)
        else:
            if "odd" not in groups:
                groups["odd"] = []
            groups["odd"].append(number)

    together(lambda: add(1), lambda: add(3))
    assert sorted(groups["odd"]) == [1, 3]


@pair("exception", memory=True)
def deleted_by_two(repaired: bool) -> None:
    """There when both looked."""
    sessions = {"a": 1}

    def log_out() -> None:
        if repaired:
            sessions.pop("a", None)
        elif "a" in sessions:
            del sessions["a"]

    together(log_out, log_out)


@pair("exception", memory=True)
def popped_after_a_look_at_the_length(repaired: bool) -> None:
    """One was left, for each of them."""
    stack = ["last"]
    lock = guard(repaired)

    def take() -> None:
        with lock:
            if len(stack) > 0:
                stack.pop()

    together(take, take)


@pair("exception", memory=True)
def popped_until_it_is_empty(repaired: bool) -> None:
    """Two empty one dict."""
    pending = {1: "a", 2: "b"}

    def drain() -> None:
        while pending:
            if repaired:
                try:
                    pending.popitem()
                except KeyError:
                    return
            else:
                pending.popitem()

    together(drain, drain)


@pair("assertion", memory=True)
def first_looked_at_then_removed(repaired: bool) -> None:
    """Both look at the first job; each removes one."""
    jobs = ["a", "b"]
    lock = guard(repaired)
    done: list[str] = []

    def work() -> None:
        with lock:
            job = jobs[0]
            jobs.pop(0)
        done.append(job)

    together(work, work)
    assert sorted(done) == ["a", "b"]


@pair("exception", memory=True)
def dict_grows_while_iterated(repaired: bool) -> None:
    """A report goes through all prices while one is added."""
    prices = {"a": 1, "b": 2}
    sums = []

    def report() -> None:
        total = 0
        for name in list(prices) if repaired else prices:
            total += prices[name]
        sums.append(total)

    def add() -> None:
        prices["c"] = 3

    together(report, add)
    assert sums[0] in (3, 6)


@pair("exception", memory=True)
def deque_changed_while_iterated(repaired: bool) -> None:
    """The last lines of a log are shown while one is written."""
    lines = deque(["a", "b"], maxlen=2)
    lock = guard(repaired)
    shown: list[str] = []

    def show() -> None:
        with lock:
            for line in lines:
                if line not in shown:
                    shown.append(line)

    def write() -> None:
        with lock:
            lines.append("c")

    together(show, write)
    assert len(shown) == 2


@pair("assertion", memory=True)
def listener_skipped(repaired: bool) -> None:
    """One that unsubscribes moves those behind it up by one, past the one that is about to be called."""
    called: list[str] = []
    listeners: list[Callable[[], None]] = []

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")

    listeners += [first, second]

    def fire() -> None:
        for listener in listeners.copy() if repaired else listeners:
            listener()

    def unsubscribe() -> None:
        listeners.remove(first)

    together(fire, unsubscribe)
    assert "second" in called


@pair("exception", memory=True)
def length_kept_too_long(repaired: bool) -> None:
    """The list has become shorter since."""
    rows = ["a", "b"]
    page = [""]

    def show() -> None:
        if repaired:
            page[0] = "".join(rows)
            return
        length = len(rows)
        for index in range(length):
            page[0] += rows[index]

    def shorten() -> None:
        rows.pop()

    together(show, shorten)


@pair("assertion", memory=True)
def claimed_by_two(repaired: bool) -> None:
    """Not in the set: so it is claimed, by both."""
    claimed: set[str] = set()
    lock = guard(repaired)
    processed = []

    def process(job: str) -> None:
        with lock:
            if job in claimed:
                return
            claimed.add(job)
        processed.append(job)

    together(lambda: process("a"), lambda: process("a"))
    assert processed == ["a"]


@pair("exception", memory=True)
def evicted_before_it_was_moved(repaired: bool) -> None:
    """A cache of the last used: the key is in it, is thrown out, and is to be moved to the end."""
    cache: OrderedDict[str, int] = OrderedDict(a=1)
    lock = guard(repaired)

    def get(key: str) -> int:
        with lock:
            if key in cache:
                cache.move_to_end(key)
                return cache[key]
            cache[key] = 0
            if len(cache) > 1:
                cache.popitem(last=False)
            return 0

    together(lambda: get("a"), lambda: get("b"))


@pair("exception", memory=True)
def memo_cleared_before_it_was_read(repaired: bool) -> None:
    """In the cache, so it is read from there; meanwhile the cache was full."""
    memo = {1: 1}

    def square(number: int) -> int:
        if repaired:
            found = memo.get(number)
            if found is not None:
                return found
        elif number in memo:
            return memo[number]
        if len(memo) >= 1:
            memo.clear()
        memo[number] = number * number
        return number * number

    together(lambda: square(1), lambda: square(2))


@pair("assertion", memory=True)
def turn_taken_by_two(repaired: bool) -> None:
    """The first in the ring is next, and goes to the end: in two operations."""
    ring = deque(["a", "b"])
    lock = guard(repaired)
    chosen = []

    def choose() -> None:
        with lock:
            worker = ring[0]
            ring.rotate(-1)
        chosen.append(worker)

    together(choose, choose)
    assert sorted(chosen) == ["a", "b"]


@pair("assertion", memory=True)
def slot_of_a_ring_buffer(repaired: bool) -> None:
    """Both write to the slot at the head, and move it on by two."""
    slots: list[str | None] = [None] * 4
    head = 0
    lock = guard(repaired)

    def put(item: str) -> None:
        nonlocal head
        with lock:
            slots[head % len(slots)] = item
            head += 1

    together(lambda: put("a"), lambda: put("b"))
    assert sorted(slot for slot in slots if slot is not None) == ["a", "b"]


@pair("assertion", memory=True)
def inserted_where_it_belonged(repaired: bool) -> None:
    """The place is looked for, then inserted at: it may have moved."""
    scores = [1, 9]
    lock = guard(repaired)

    def insert(score: int) -> None:
        with lock:
            place = bisect.bisect(scores, score)
            scores.insert(place, score)

    together(lambda: insert(4), lambda: insert(5))
    assert scores == [1, 4, 5, 9]


@pair("assertion", memory=True)
def removed_by_its_index(repaired: bool) -> None:
    """The index is another item's by now."""
    seats = ["a", "b", "c"]

    def leave(name: str) -> None:
        if repaired:
            seats.remove(name)
        else:
            index = seats.index(name)
            del seats[index]

    together(lambda: leave("a"), lambda: leave("b"))
    assert seats == ["c"]


@pair("exception", memory=True)
def two_indexes_of_one_table(repaired: bool) -> None:
    """By name it is there already, by number not yet."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    lock = guard(repaired)

    def enter(name: str, number: int) -> None:
        with lock:
            numbers[name] = number
            names[number] = name

    def look_up() -> None:
        with lock:
            number = numbers.get("a")
            if number is not None:
                assert names[number] == "a"

    together(lambda: enter("a", 1), look_up)


@pair("exception", memory=True)
def settings_gone_for_a_moment(repaired: bool) -> None:
    """Cleared, then filled again; in between it is empty."""
    settings = {"size": 1}

    def reload() -> None:
        nonlocal settings
        if repaired:
            settings = {"size": 2}
        else:
            settings.clear()
            settings.update(size=2)

    def use() -> None:
        assert settings["size"] in (1, 2)

    together(reload, use)


@pair("assertion", memory=True)
def bounded_by_a_look(repaired: bool) -> None:
    """Room for one more, for each of them."""
    waiting = ["a"]
    lock = guard(repaired)

    def join(name: str) -> None:
        with lock:
            if len(waiting) < 2:
                waiting.append(name)

    together(lambda: join("b"), lambda: join("c"))
    assert len(waiting) == 2


@pair("assertion", memory=True)
def moved_from_one_list_to_another(repaired: bool) -> None:
    """In neither of them, for a moment."""
    waiting, running = ["job"], list[str]()
    lock = guard(repaired)
    seen: list[Any] = []

    def start() -> None:
        with lock:
            running.append(waiting.pop())

    def count() -> None:
        with lock:
            seen.append(len(waiting) + len(running))

    together(start, count)
    assert seen == [1]


@pair("assertion", memory=True)
def locks_made_at_need(repaired: bool) -> None:
    """A lock for each name, made by whoever comes first: two come first, and each has a lock of its own."""
    locks: dict[str, Any] = {}
    copies = 0

    def lock_of(name: str) -> Any:
        if repaired:
            return locks.setdefault(name, threading.Lock())
        if name not in locks:
            locks[name] = threading.Lock()
        return locks[name]

    def work() -> None:
        nonlocal copies
        with lock_of("printer"):
            copies += 1

    together(work, work)
    assert copies == 2


@pair("exception", memory=True)
def stolen_from_under_the_owner(repaired: bool) -> None:
    """The owner takes from one end, a thief from the other: they meet at the last task."""
    tasks = deque(["a", "b"])
    done: list[str] = []

    def own() -> None:
        while tasks:
            if repaired:
                try:
                    done.append(tasks.pop())
                except IndexError:
                    return
            else:
                done.append(tasks.pop())

    def steal() -> None:
        try:
            done.append(tasks.popleft())
        except IndexError:
            return

    together(own, steal)
    assert sorted(done) == ["a", "b"]


@pair("assertion", memory=True)
def readers_counted_in_a_dict(repaired: bool) -> None:
    """Two readers come in at once and are counted as one, so a writer finds nobody when the first has left."""
    state = {"readers": 0}
    lock = guard(repaired)
    disturbed = []
    reading: list[int] = []

    def read(me: int) -> None:
        with lock:
            state["readers"] += 1
        reading.append(me)
        reading.remove(me)
        with lock:
            state["readers"] -= 1

    def write() -> None:
        with lock:
            if state["readers"] == 0:
                disturbed.append(bool(reading))

    together(lambda: read(1), lambda: read(2), write)
    assert not any(disturbed)
