"""What kind of bug a failure is: named where it is known, and nothing said where it is not."""

from __future__ import annotations

import functools
import importlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bugs import load
from together import together

from greenthreads.testing import Failure, Pattern, explore

PAIRS = {pair.name: pair for pair in load()}

# What each program of the table is, where there is a name for it.
NAMED = {
    "lost_wakeup": "lost wakeup",
    "event_pulsed": "lost wakeup",
    "event_cleared_before_the_wait": "lost wakeup",
    "event_cleared_after_the_work": "lost wakeup",
    "lock_dropped_between_read_and_write": "lost update",
    "two_locks_for_one_thing": "lost update",
    "lost_update": "lost update",
    "last_of_a_bounded_buffer": "lost update",
    "state_changed_without_the_lock": "check-then-act",
    "cache_filled_twice": "check-then-act",
    "popped_from_an_empty_list": "check-then-act",
    "double_checked_locking": "check-then-act",
    "empty_then_get": "check-then-act",
    "full_then_put": "check-then-act",
    "while_there_are_items": "check-then-act",
    "submitted_after_shutdown": "check-then-act",
    "callback_after_close": "check-then-act",
    "daemon_that_goes_on": "check-then-act",
    "written_while_it_closes": "check-then-act",
    "lazy_initialisation": "torn read",
    "published_before_it_was_made": "order violation",
    "done_before_it_is": "order violation",
    "joined_for_a_while": "order violation",
    "stolen_from_under_the_owner": "check-then-act",
    "readers_counted_in_a_dict": "check-then-act",
    "counted_by_three": "lost update",
    "compared_and_then_written": "lost update",
    "tokens_refilled_while_taken": "lost update",
    "attribute_incremented": "lost update",
    "global_incremented": "lost update",
    "closure_incremented": "lost update",
    "instances_counted_in_the_class": "lost update",
    "text_appended": "lost update",
    "toggled_twice": "lost update",
    "overdrawn": "check-then-act",
    "singleton_made_twice": "check-then-act",
    "double_checked_and_published_too_soon": "order violation",
    "lazy_value_computed_twice": "check-then-act",
    "handler_without_its_routes": "order violation",
    "closed_after_the_check": "check-then-act",
    "point_read_in_parts": "torn read",
    "swapped_by_two": "lost update",
    "mean_of_a_sum_and_a_count": "torn read",
    "highest_lost": "check-then-act",
    "job_started_by_two": "check-then-act",
    "copied_on_write_without_a_lock": "lost update",
    "version_not_looked_at_again": "check-then-act",
    "ready_before_the_result": "torn read",
    "item_of_a_dict_incremented": "lost update",
    "item_of_a_list_incremented": "lost update",
    "words_counted_by_get": "lost update",
    "item_of_an_own_container": "lost update",
    "if_not_in_for_setdefault": "check-then-act",
    "deleted_by_two": "check-then-act",
    "popped_after_a_look_at_the_length": "check-then-act",
    "popped_until_it_is_empty": "check-then-act",
    "claimed_by_two": "check-then-act",
    "evicted_before_it_was_moved": "check-then-act",
    "memo_cleared_before_it_was_read": "check-then-act",
    "two_indexes_of_one_table": "order violation",
    "bounded_by_a_look": "check-then-act",
}
# Named after some schedules, and after others not; never otherwise.
SOMETIMES = {
    "aba": "check-then-act",
    "peterson": "check-then-act",
    "mutual_exclusion_by_turns": "check-then-act",
    "started_twice": "check-then-act",
    # Of the counter that the two locks were to guard.
    "locks_made_at_need": "lost update",
}
# Bugs of other kinds.
NAMELESS = [
    "if_for_while", "notify_for_notify_all", "result_of_a_timed_wait_ignored", "barrier_reused",
    "notification_eaten", "wait_for_the_wrong_thing", "semaphore_released_too_often", "permits_taken_one_by_one",
    "permit_lost_on_the_way_out", "barrier_broken_by_a_timeout", "result_read_before_the_barrier",
    "lock_order_of_two", "lock_order_of_three", "dining_philosophers", "bank_transfer", "callback_under_a_lock",
    "released_without_having_it", "lock_kept_on_an_error", "readers_that_want_to_write",
    "rlock_for_exclusion_by_one_thread", "stop_before_start", "changed_while_iterated", "one_context_for_all",
    "closed_twice", "one_sentinel_for_two", "request_and_reply", "stopped_with_items_left",
    "put_after_the_consumer_left", "task_waits_for_a_task", "callback_of_a_finished_future", "future_set_twice",
    "timer_cancelled_too_late", "worker_that_dies", "connection_lost_on_an_error", "stop_joins_under_the_lock",
    "lock_left_by_a_timeout", "helper_left_behind",
    "transfer_seen_halfway", "released_by_the_last_user", "changed_through_a_property", "identifier_given_twice",
    "generator_entered_twice", "linked_list_insertion", "first_looked_at_then_removed", "dict_grows_while_iterated",
    "deque_changed_while_iterated", "length_kept_too_long", "turn_taken_by_two", "slot_of_a_ring_buffer",
    "inserted_where_it_belonged", "removed_by_its_index", "settings_gone_for_a_moment",
    "moved_from_one_list_to_another", "listener_skipped",
]  # fmt: skip


def failure_of(program: Callable[[], object], **options: Any) -> Failure:
    found = explore(program, max_seconds=60, **options)
    assert found.failure is not None
    return found.failure


def name_of(failure: Failure) -> str | None:
    return None if failure.pattern is None else failure.pattern.name


@pytest.mark.parametrize("name", [*NAMED, *SOMETIMES, *NAMELESS])
def test_no_bug_of_the_table_gets_a_wrong_name(name: str) -> None:
    pair = PAIRS[name]
    failure = failure_of(functools.partial(pair.program, False), **{**pair.options, "memory": True})
    assert failure.kind == pair.kind
    allowed = {NAMED.get(name, SOMETIMES.get(name)), NAMED.get(name)}
    assert name_of(failure) in allowed, failure.report()
    if failure.pattern is not None:
        assert str(failure.pattern) in " ".join(failure.report().split())
        assert all(Path(line.file).is_file() for line in failure.pattern.lines)


class Thing:
    connection: Any = None

    def __init__(self) -> None:
        self.value = 0
        self.table: dict[str, Any] = {}
        self.lock = threading.Lock()

    def get(self) -> int:
        return self.value

    def set(self, value: int) -> None:
        self.value = value

    def is_empty(self) -> bool:
        return not self.table


def augmented() -> None:
    thing = Thing()

    def work() -> None:
        thing.value += 1

    together(work, work)
    assert thing.value == 2


def by_getter_and_setter() -> None:
    thing = Thing()

    def work() -> None:
        thing.set(thing.get() + 1)

    together(work, work)
    assert thing.value == 2


def by_way_of_variables() -> None:
    thing = Thing()

    def work() -> None:
        value = thing.value
        more = value + 1
        with thing.lock:
            thing.value = more

    together(work, work)
    assert thing.value == 2


def counted_in_a_dict() -> None:
    counts: dict[str, int] = {}

    def work() -> None:
        for letter in "ab":
            counts[letter] = counts.get(letter, 0) + 1

    together(work, work)
    assert counts == {"a": 2, "b": 2}


def checked_without_the_lock_and_taken_off_with_it() -> None:
    thing = Thing()
    thing.value = 1

    def take() -> None:
        if not thing.value:
            return
        with thing.lock:
            thing.value -= 1

    together(take, take)
    assert thing.value == 0


def checked_by_a_method() -> None:
    thing = Thing()
    thing.table["key"] = 1

    def work() -> None:
        if not thing.is_empty():
            thing.table.pop("key")

    together(work, work)


def made_once() -> None:
    thing = Thing()
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    def work() -> None:
        if thing.connection is None:
            thing.connection = make()

    together(work, work)
    assert len(made) == 1


def left_early_if_it_is_there() -> None:
    thing = Thing()
    made: list[object] = []

    def work() -> None:
        found = thing.table.get("key")
        if found is not None:
            return
        made.append(1)
        thing.table["key"] = made

    together(work, work)
    assert len(made) == 1


def a_lock_by_hand() -> None:
    thing = Thing()
    inside: list[int] = []

    def work() -> None:
        while thing.value:
            pass
        thing.value = 1
        inside.append(1)
        assert len(inside) == 1
        inside.pop()
        thing.value = 0

    together(work, work)


def checked_under_another_hold_of_the_lock() -> None:
    thing = Thing()
    thing.value = 100

    def work() -> None:
        with thing.lock:
            enough = thing.value >= 60
        if enough:
            with thing.lock:
                thing.value -= 60

    together(work, work)
    assert thing.value >= 0


def two_ends_of_a_range() -> None:
    thing: Any = Thing()
    thing.low, thing.high = 0, 10

    def move() -> None:
        thing.low = 20
        thing.high = 30

    def look() -> None:
        low = thing.low
        high = thing.high
        assert high - low == 10

    together(move, look)


def none_yet() -> None:
    thing = Thing()

    def connect() -> None:
        thing.connection = []

    together(connect, lambda: thing.connection.append(1))


def no_such_attribute_yet() -> None:
    thing: Any = Thing()

    def start() -> None:
        thing.later = 1

    together(start, lambda: thing.later + 1)


def not_joined() -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(1))
    thread.start()
    assert results == [1]


def notified_too_early() -> None:
    thing, condition = Thing(), threading.Condition()

    def wait() -> None:
        if not thing.value:
            with condition:
                condition.wait()

    def notify() -> None:
        thing.value = 1
        with condition:
            condition.notify()

    together(wait, notify)


# What has none of these names: it is wrong in any order, or in one of two that are as good as each other.


def simply_wrong() -> None:
    items: list[int] = []
    together(lambda: items.append(1), lambda: items.append(1))
    assert len(items) == 3


def one_of_two_orders() -> None:
    items: list[int] = []
    together(lambda: items.append(1), lambda: items.append(2))
    assert items == [1, 2]


def a_counter_beside_a_deadlock() -> None:
    # The counter is torn in the same schedule, and has nothing to do with it.
    a, b = threading.Lock(), threading.Lock()
    thing = Thing()

    def work(first: Any, second: Any) -> None:
        with first:
            thing.value += 1
            with second:
                pass

    together(lambda: work(a, b), lambda: work(b, a))


def a_counter_beside_an_error() -> None:
    thing = Thing()
    done = threading.Event()

    def work() -> None:
        thing.value += 1

    def other() -> None:
        thing.value += 1
        done.set()

    together(work, other)
    assert not done.is_set()


PROGRAMS: list[Any] = [
    (augmented, "lost update"),
    (by_getter_and_setter, "lost update"),
    (by_way_of_variables, "lost update"),
    (counted_in_a_dict, "lost update"),
    (checked_by_a_method, "check-then-act"),
    (made_once, "check-then-act"),
    (left_early_if_it_is_there, "check-then-act"),
    (a_lock_by_hand, "check-then-act"),
    (checked_under_another_hold_of_the_lock, "check-then-act"),
    (two_ends_of_a_range, "torn read"),
    (none_yet, "order violation"),
    (no_such_attribute_yet, "order violation"),
    (not_joined, "order violation"),
    (notified_too_early, "lost wakeup"),
    (simply_wrong, None),
    (one_of_two_orders, None),
    (a_counter_beside_a_deadlock, None),
    (a_counter_beside_an_error, None),
]


@pytest.mark.parametrize(("program", "name"), PROGRAMS)
def test_a_pattern_has_its_name_and_nothing_else_has_one(program: Callable[[], None], name: str | None) -> None:
    failure = failure_of(program, strategy="random", seed=1)
    assert name_of(failure) == name, failure.report()


@pytest.mark.parametrize("strategy", ["auto", "dpor", "pct", "surw"])
def test_the_pattern_does_not_depend_on_how_the_failure_was_found(strategy: str) -> None:
    for program in (augmented, made_once):
        assert name_of(failure_of(program, strategy=strategy)) == dict(PROGRAMS)[program]


def test_a_livelock_has_no_pattern() -> None:
    def main() -> None:
        while True:
            time.sleep(1)

    failure = failure_of(main, max_steps=100)
    assert failure.kind == "livelock"
    assert failure.pattern is None


COUNTER = """\
import threading


class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        value = self.value
        self.value = value + 1


def test_counter():
    counter = Counter()
    threads = [threading.Thread(target=counter.increment) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 2
"""


def test_the_report_has_a_paragraph_with_the_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "counter.py"
    file.write_text(COUNTER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("counter")
    monkeypatch.delitem(sys.modules, "counter")
    monkeypatch.setitem(sys.modules, "counter", module)
    failure = failure_of(module.test_counter, strategy="dpor")
    paragraph, command = failure.report(width=110).split("\n\n")[-2:]
    assert paragraph == textwrap.dedent(
        """\
        lost update of self.value: thread 2 writes it after thread 1 has read it, and thread 1 overwrites that
          thread 1 reads       counter.py:9   value = self.value
          thread 1 overwrites  counter.py:10  self.value = value + 1"""
    )
    assert command == f"replay: replay(test_counter, {failure.trace!r})"
    assert failure.pattern == Pattern(
        "lost update",
        "self.value",
        "thread 2 writes it after thread 1 has read it, and thread 1 overwrites that",
        (("thread 1 reads", str(file), 9), ("thread 1 overwrites", str(file), 10)),  # type: ignore[arg-type]
    )
    narrow = failure.report(width=50).split("\n\n")[-2]
    assert max(map(len, narrow.splitlines())) <= 50
