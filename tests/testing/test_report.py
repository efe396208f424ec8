"""The report of a failure: whole, as it prints; what it calls things; what it leaves out; that nothing breaks it."""

from __future__ import annotations

import queue
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plain import explore
from together import together

import greenthreads.testing
from greenthreads import Deadlock
from greenthreads.testing import Failure
from greenthreads.testing._aliases import brief

BANK = """\
import threading


class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()

    def spend(self, amount):
        with self.lock:
            enough = self.balance >= amount
        if enough:
            with self.lock:
                self.balance -= amount
        if self.balance < 0:
            raise ValueError("overdrawn")


def test_spending():
    account = Account(100)
    first = threading.Thread(target=account.spend, args=(60,))
    second = threading.Thread(target=account.spend, args=(60,))
    first.start()
    second.start()
    first.join()
    second.join()


def move(source, target):
    with source.lock:
        with target.lock:
            source.balance -= 10
            target.balance += 10


def test_moving():
    mine, yours = Account(100), Account(100)
    threads = [
        threading.Thread(target=move, args=(mine, yours)),
        threading.Thread(target=move, args=(yours, mine)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""

Program = Callable[[str, str], Callable[[], Any]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A function of a module that stands in a file of a short name."""

    def load(source: str, name: str) -> Callable[[], Any]:
        file = tmp_path / "bank.py"
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        namespace: dict[str, Any] = {"__name__": "bank"}
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
        return namespace[name]  # type: ignore[no-any-return]

    return load


def failure_of(fn: Callable[[], object], **options: Any) -> Failure:
    found = explore(fn, **options)
    assert found.failure is not None
    return found.failure


def test_an_exception(program: Program) -> None:
    failure = failure_of(program(BANK, "test_spending"))
    assert failure.report(width=120) == textwrap.dedent(
        f"""\
        ValueError in thread 1 Thread-1 (spend), after 14 steps with 1 preemption: overdrawn

             0 main   1 spend            2 spend
             ------   -------            -------
          2  start 1                                        bank.py:23  first.start()
          3  start 2                                        bank.py:24  second.start()
          4           begin                                 bank.py:9   def spend(self, amount):
          5           acquire self.lock                     bank.py:10  with self.lock:
          6           release self.lock                     bank.py:10  with self.lock:
          !           -- preempted --
          7                              begin              bank.py:9   def spend(self, amount):
          8                              acquire self.lock  bank.py:10  with self.lock:
          9                              release self.lock  bank.py:10  with self.lock:
         10                              acquire self.lock  bank.py:13  with self.lock:
         11                              release self.lock  bank.py:13  with self.lock:
         12                              end
         13           acquire self.lock                     bank.py:13  with self.lock:
         14           release self.lock                     bank.py:13  with self.lock:
                      ValueError: overdrawn                 bank.py:16  raise ValueError("overdrawn")

        replay: replay(test_spending, {failure.trace!r})"""
    )


def test_a_deadlock(program: Program) -> None:
    failure = failure_of(program(BANK, "test_moving"), replay_command="pytest bank.py --interleave-replay=")
    assert failure.report(width=120) == textwrap.dedent(
        f"""\
        deadlock after 7 steps with 1 preemption: 2 threads wait for ever

             0 main      1 move                       2 move
             ------      ------                       ------
          2  start 1, 2                                                           bank.py:43  thread.start()
          4              begin                                                    bank.py:29  def move(source, target):
          5              acquire mine.lock                                        bank.py:30  with source.lock:
          !              -- preempted --
          6                                           begin                       bank.py:29  def move(source, target):
          7                                           acquire yours.lock          bank.py:30  with source.lock:
                         waits to acquire yours.lock                              bank.py:31  with target.lock:
                                                      waits to acquire mine.lock  bank.py:31  with target.lock:

        1 Thread-1 (move) waits to acquire yours.lock, held by 2 Thread-2 (move)
            holds mine.lock, taken at bank.py:30
            at bank.py:31 in move:  with target.lock:
        2 Thread-2 (move) waits to acquire mine.lock, held by 1 Thread-1 (move)
            holds yours.lock, taken at bank.py:30
            at bank.py:31 in move:  with target.lock:
        0 MainThread waits for the end of 1 Thread-1 (move)
            at bank.py:45 in test_moving:  thread.join()

        replay: pytest bank.py --interleave-replay={failure.trace}"""
    )


def test_threads_that_could_go_on_have_no_part_in_a_deadlock() -> None:
    def main() -> None:
        first, second = threading.RLock(), threading.RLock()
        numbers: dict[int, int] = {}

        def take(mine: Any, other: Any) -> None:
            with mine, other:
                pass

        def count() -> None:
            numbers[1] = numbers.get(0, 0)
            numbers[0] = numbers.get(1, 0)

        together(lambda: take(first, second), lambda: take(second, first), count, count)

    found = greenthreads.testing.explore(main, strategy="random")
    assert found.failure is not None
    assert isinstance(found.failure.exception, Deadlock)
    assert len(found.failure.exception.threads) == 3
    # The two, and the main thread that waits for the first of them.
    who = [line.split()[0] for line in found.failure.report().splitlines() if " waits for " in line]
    who += [line.split()[0] for line in found.failure.report().splitlines() if " waits to acquire " in line]
    assert sorted(who) == ["0", "1", "2", "waits", "waits"]


def test_a_livelock_ends_in_its_loop(program: Program) -> None:
    source = """\
        import threading
        import time

        def test_polling():
            ready = threading.Event()
            for _ in range(3):
                time.sleep(1)
            while not ready.is_set():
                time.sleep(1)
        """
    failure = failure_of(program(source, "test_polling"), max_steps=200)
    lines = failure.report(width=100).splitlines()
    assert lines[:-1] == [
        "livelock with 0 preemptions: no end after 200 steps",
        "",
        "     0 main",
        "     ------",
        "  2  sleep         bank.py:7  time.sleep(1)",
        "  3  sleep         bank.py:7  time.sleep(1)",
        "  4  sleep         bank.py:7  time.sleep(1)",
        "     -- these 2 steps, 98 times:",
        "  5  is set ready  bank.py:8  while not ready.is_set():",
        "  6  sleep         bank.py:9  time.sleep(1)",
        "",
    ]


@pytest.mark.parametrize("width", [40, 60, 76, 100, 160])
def test_it_keeps_to_its_width(program: Program, width: int) -> None:
    for name in ("test_spending", "test_moving"):
        report = failure_of(program(BANK, name)).report(width=width)
        table = report.split("\n\n")[1]
        assert max(map(len, table.splitlines())) <= width
        # However little room there is, who did what, and where, is there.
        for words in ("acquire", "bank.py:10" if name == "test_spending" else "bank.py:30", "-- preempted --"):
            assert words in table


def test_many_threads_have_a_column_each() -> None:
    def main() -> None:
        locks = [threading.Lock() for _ in range(9)]

        def work(first: Any, second: Any) -> None:
            with first, second:
                pass

        together(*[lambda n=n: work(locks[n], locks[(n + 1) % 9]) for n in range(9)])

    table = failure_of(main, max_seconds=30).report(width=100).split("\n\n")[1]
    taken = [line for line in table.splitlines() if "acquire locks" in line and "waits" not in line]
    begins = [line.index("acquire locks") for line in taken]
    assert len(set(begins)) == 9
    assert max(map(len, table.splitlines())) <= 100


# ---- Names of things -------------------------------------------------------------------------------------------------


def operations(failure: Failure) -> str:
    return failure.report(width=200)


SHARED: Any = None


class Box:
    everybodys: Any = None

    def __init__(self) -> None:
        global SHARED
        Box.everybodys = threading.Lock()
        SHARED = threading.Lock()
        self.__hidden = threading.Lock()
        self.jobs: queue.Queue[int] = queue.Queue()

    def use(self) -> None:
        with self.__hidden:
            pass
        with Box.everybodys, SHARED:
            self.jobs.put(1)
        raise ValueError


class Slotted:
    __slots__ = ("gate", "unset")

    def __init__(self) -> None:
        self.gate = threading.Condition()

    def use(self) -> None:
        with self.gate:
            self.gate.notify()
        raise ValueError


def test_attributes_globals_and_slots_have_their_names() -> None:
    report = operations(failure_of(lambda: Box().use()))
    for words in ("acquire self.__hidden", "acquire self.everybodys", "acquire SHARED", "put self.jobs"):
        assert words in report
    report = operations(failure_of(lambda: Slotted().use()))
    # The condition's own lock has no name of its own: it goes by that of the condition.
    assert "acquire self.gate" in report
    assert "notify self.gate" in report


def test_what_has_two_names_has_one_in_the_report() -> None:
    def main() -> None:
        forks = {"left": threading.Lock(), "right": threading.Lock()}

        def use(one: Any, other: Any) -> None:
            with one, other:
                pass

        together(lambda: use(forks["left"], forks["right"]), lambda: use(forks["right"], forks["left"]))

    report = operations(failure_of(main))
    assert "waits to acquire forks['right']" in report
    assert "waits to acquire forks['left']" in report


def test_what_has_no_name_has_a_number() -> None:
    def locks() -> Any:
        yield threading.Lock()
        yield threading.Lock()

    def main() -> None:
        for lock in locks():
            lock.acquire()
        del lock
        raise ValueError

    report = operations(failure_of(main))
    assert "acquire lock#1" in report
    assert "acquire lock#2" in report

    def nameless() -> None:
        threading.Lock().acquire()
        raise ValueError

    assert "acquire Lock#1" in operations(failure_of(nameless))


def test_nothing_of_the_programs_is_called_for_a_name() -> None:
    class Touchy:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __repr__(self) -> str:
            raise RuntimeError("repr")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        __hash__ = None  # type: ignore[assignment]

        @property
        def danger(self) -> int:
            raise RuntimeError("property")

        def __getattr__(self, name: str) -> int:
            raise RuntimeError("getattr")

    def main() -> None:
        touchy = Touchy()
        others = [touchy, {1: touchy}]
        with touchy.lock:
            pass
        raise ValueError(len(others))

    assert "acquire touchy.lock" in operations(failure_of(main))


def test_looking_for_names_changes_nothing_that_the_program_could_notice() -> None:
    class Resource:
        pass

    def main() -> None:
        import weakref

        lock = threading.Lock()
        resource = Resource()
        alive = weakref.ref(resource)
        with lock:
            pass
        del resource
        if alive() is None:
            raise ValueError("gone")

    failure = failure_of(main)
    assert isinstance(failure.exception, ValueError)
    assert "ValueError: gone" in failure.report(width=110)


# ---- Exceptions and values -------------------------------------------------------------------------------------------


def test_a_broken_exception_breaks_no_report() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    def main() -> None:
        raise Broken

    report = failure_of(main).report(width=110)
    assert "Broken in thread 0 MainThread, after 1 step with" in report
    assert "Broken: <its text can't be had: RuntimeError>" in report


def test_a_long_message_stands_above_the_table() -> None:
    def main() -> None:
        raise ValueError("\n".join(f"line {n}" for n in range(40)))

    report = failure_of(main).report(width=110)
    head, table = report.split("\n\n")[:2]
    assert head.splitlines()[1:3] == ["  line 0", "  line 1"]
    assert head.endswith("  ...")
    assert "ValueError: line 0" in table
    assert "line 1" not in table


def test_a_long_run_is_folded() -> None:
    def main() -> None:
        private, common = threading.Lock(), threading.Lock()

        def work() -> None:
            for _ in range(40):
                with private:
                    pass
            with common:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        with common:
            pass
        thread.join()
        time.sleep(1)
        raise ValueError("at last")

    table = failure_of(main).report(width=100).split("\n\n")[1].splitlines()
    assert len(table) < 30
    assert any("... 80 steps" in line for line in table)
    assert [line for line in table if "acquire common" in line]
    assert "ValueError: at last" in table[-1]


class Loud:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        ("text", "'text'"),
        ([1, [2, [3]]], "[1, [2, <list>]]"),
        ({"a": (1,)}, "{'a': (1,)}"),
        ([], "[]"),
        (Loud(), "<Loud>"),
        ([Loud()], "[<Loud>]"),
        (Loud, "Loud"),
        (1 << 100_000, "<int of 100001 bits>"),
        ("x" * 100, "'" + "x" * 26 + "..."),
    ],
    ids=range(10),
)
def test_a_value_in_brief(value: object, text: str) -> None:
    assert brief(value) == text
