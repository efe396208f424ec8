"""Mutation of synchronisation: what is changed, which tests notice, and that nothing of it stays."""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from together import together

import greenthreads.pytest_plugin
from greenthreads.testing import Mutation, mutate

pytest_plugins = "pytester"

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import a program from a folder of its own: that is the code under test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def loaded(source: str) -> ModuleType:
        names.append(f"mutated_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(names[-1])

    yield loaded
    for name in names:
        sys.modules.pop(name, None)


def mutated(tmp_path: Path, *tests: Callable[[], object], **options: Any) -> Mutation:
    return mutate(*tests, root=str(tmp_path), **{"strategy": "dpor", **options})


def rows(mutation: Mutation) -> list[tuple[int, str, str | None]]:
    """Line, change, and how it failed (None: it survived)."""
    return [(each.mutant.site.line, each.mutant.change.text, each.failure) for each in mutation.verdicts]


COUNTER = """
    import threading

    class Counter:
        def __init__(self):
            self.lock = threading.Lock()
            self.value = 0
            self.seen = []

        def increment(self):
            with self.lock:
                self.value += 1

        def look(self):
            with self.lock:
                value = self.value
                self.seen.append(value)
                return value
    """


def test_a_lock_that_is_missed(load: Load, tmp_path: Path) -> None:
    program = load(COUNTER)

    def test_increment() -> None:
        counter = program.Counter()
        together(counter.increment, counter.increment)
        assert counter.value == 2

    mutation = mutated(tmp_path, test_increment)
    assert rows(mutation) == [(11, "without `self.lock`", "assertion")]
    (verdict,) = mutation.verdicts
    assert verdict.killed_by is not None
    assert verdict.killed_by.endswith("test_increment")
    assert mutation.survivors == []
    name = re.escape(verdict.killed_by)
    first, last, unreached = str(mutation).splitlines()
    assert re.fullmatch(
        rf"mutated_0\.py:11  without `self\.lock`  killed by {name} after \d+ executions? \(assertion\)", first
    )
    assert last == "1 mutant, 0 survived"
    assert unreached == "never reached, whatever they are: mutated_0.py:15 self.lock"


def test_places_that_no_test_comes_by_are_named_up_to_a_number(load: Load, tmp_path: Path) -> None:
    methods = "".join(f"\n        def unused_{n}(self):\n            with self.lock: pass\n" for n in range(10))
    program = load(COUNTER + methods)
    load("import threading\nlock = threading.Lock()\ndef elsewhere():\n    with lock: pass\n")

    def test_look() -> None:
        program.Counter().look()

    mutation = mutated(tmp_path, test_look)
    assert [place.partition(" ")[2] for place in mutation.unreached] == ["self.lock"] * 11
    assert str(mutation).endswith(", mutated_0.py:39 self.lock, and 3 more")


def test_a_lock_that_nobody_misses_and_the_narrower_ones(load: Load, tmp_path: Path) -> None:
    program = load(COUNTER)

    def test_look() -> None:
        counter = program.Counter()
        together(counter.look, counter.increment)
        assert counter.seen in ([0], [1])

    mutation = mutated(tmp_path, test_look)
    assert rows(mutation) == [
        (11, "without `self.lock`", None),
        (15, "without `self.lock`", None),
        (15, "`value = self.value` before `self.lock`", None),
        # With what stands behind it and touches nothing.
        (15, "`self.seen.append(value)` after `self.lock`", None),
    ]
    assert len(mutation.survivors) == 4
    assert all(verdict.exhausted for verdict in mutation.verdicts)
    assert re.search(r"SURVIVED 1 test, \d+ executions?, every schedule\n", str(mutation))


def test_each_way_of_narrowing(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading

        lock = threading.Lock()
        cache = {}
        made = []

        def get(key):
            with lock:
                if key not in cache:
                    made.append(key)
                    cache[key] = len(made)
                return cache[key]

        def enter(key):
            with lock:
                if key not in cache:
                    cache[key] = 0
                    made.append(key)

        def both(key):
            with lock:
                cache[key] = 1
                made.append(key)
    """)

    def reset() -> None:
        program.cache.clear()
        program.made.clear()

    def test_get() -> None:
        reset()
        together(lambda: program.get("a"), lambda: program.get("a"))
        assert program.made == ["a"]

    def test_enter() -> None:
        reset()
        together(lambda: program.enter("a"), lambda: program.enter("a"))
        assert program.made == ["a"]

    def test_both() -> None:
        reset()
        together(lambda: program.both("a"), lambda: program.both("a"))
        assert program.made == ["a", "a"]

    mutation = mutated(tmp_path, test_get, test_enter, test_both)
    assert rows(mutation) == [
        (9, "without `lock`", "assertion"),
        (9, "`if key not in cache:` before `lock`", "assertion"),
        (9, "`return cache[key]` after `lock`", None),
        (16, "without `lock`", "assertion"),
        (16, "only the test of `if key not in cache:` under `lock`", "assertion"),
        (22, "without `lock`", None),
        (22, "`cache[key] = 1` before `lock`", None),
        (22, "`made.append(key)` after `lock`", None),
    ]
    assert {verdict.tests for verdict in mutation.verdicts} == {1}


def test_several_locks_of_one_statement(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading

        class Account:
            def __init__(self):
                self.lock = threading.Lock()
                self.balance = 0

        def transfer(one, other):
            with one.lock, other.lock:
                one.balance -= 1
                other.balance += 1

        def deposit(account):
            with account.lock as taken:
                account.balance += taken
    """)

    def test_it() -> None:
        one, other = program.Account(), program.Account()
        together(
            lambda: program.transfer(one, other), lambda: program.deposit(one), lambda: program.deposit(other)
        )
        assert (one.balance, other.balance) == (0, 2)

    assert rows(mutated(tmp_path, test_it)) == [
        (10, "without `one.lock`", "assertion"),
        (10, "without `other.lock`", "assertion"),
        (10, "`one.balance -= 1` before `other.lock`", None),
        (10, "`other.balance += 1` after `other.lock`", "assertion"),
        (15, "without `account.lock`", "assertion"),
    ]


def test_acquire_and_release(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading

        class Account:
            def __init__(self):
                self.lock = threading.Lock()
                self.balance = 0
                self.entries = 0

            def deposit(self):
                self.lock.acquire()
                try:
                    self.balance += 1
                    self.entries += 1
                finally:
                    self.lock.release()

            def attempt(self):
                if self.lock.acquire(timeout=5):
                    self.balance += 1
                    self.lock.release()

            def __enter__(self):
                self.lock.acquire()

            def __exit__(self, *exc):
                self.lock.release()
    """)

    def test_deposit() -> None:
        account = program.Account()
        together(account.deposit, account.deposit)
        assert account.balance == account.entries == 2

    def test_attempt() -> None:
        account = program.Account()
        together(account.attempt, account.attempt)
        assert account.balance == 2

    def test_scope() -> None:
        account = program.Account()

        def deposit() -> None:
            with account:
                account.attempts = getattr(account, "attempts", 0)

        together(deposit, deposit)

    assert rows(mutated(tmp_path, test_deposit, test_attempt, test_scope)) == [
        (11, "without `self.lock.acquire()` and its `release()`", "assertion"),
        (11, "`self.balance += 1` before `self.lock`", "assertion"),
        (11, "`self.entries += 1` after `self.lock`", "assertion"),
        (19, "without `self.lock.acquire()` and its `release()`", "assertion"),
        (24, "without `self.lock.acquire()` and its `release()`", None),
    ]


def test_conditions(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading

        class Box:
            def __init__(self):
                self.changed = threading.Condition()
                self.items = []

            def put(self, item):
                with self.changed: self.items.append(item); self.changed.notify()

            def take(self):
                with self.changed:
                    while not self.items:
                        self.changed.wait()
                    return self.items.pop()

            def fill(self, items):
                with self.changed: self.items.extend(items); self.changed.notify_all()

            def take_for(self):
                with self.changed:
                    self.changed.wait_for(lambda: self.items)
                    return self.items.pop()

        class Waits:
            def __init__(self, event):
                self.event = event

            def wait(self):
                while not self.event.is_set():
                    self.event.wait()
    """)

    def test_put() -> None:
        box = program.Box()
        together(box.take, box.take, lambda: (box.put(1), box.put(2)))

    def test_fill() -> None:
        box = program.Box()
        together(box.take_for, box.take_for, lambda: box.fill([1, 2]))
        event = threading.Event()
        together(program.Waits(event).wait, event.set)

    found = rows(mutated(tmp_path, test_put, test_fill))
    assert [row for row in found if "`self.changed`" not in row[1]] == [
        (10, "without `self.changed.notify()`", "deadlock"),
        (14, "`if` for `while not self.items` around `self.changed.wait()`", "exception"),
        (19, "without `self.changed.notify_all()`", "deadlock"),
        (19, "`self.changed.notify()` for `notify_all()`", "deadlock"),
        (23, "`self.changed.wait_for()` looks once", None),
    ]


def test_what_is_no_lock_is_left_alone(load: Load, tmp_path: Path) -> None:
    program = load("""
        import contextlib, threading

        lock = threading.Lock()

        def write(path):
            with open(path, "a") as file, contextlib.suppress(ValueError):
                file.write("x")

        def under(scope, record):
            with scope:
                record.append(len(record))
                record.append(len(record))

        class Pool:
            def acquire(self): return True
            def release(self): pass

        def use(pool):
            pool.acquire()
            try:
                pool.used = 1
            finally:
                pool.release()
    """)

    def test_it() -> None:
        record: list[int] = []
        program.write(tmp_path / "file")
        program.use(program.Pool())
        together(*[lambda: program.under(program.lock, record)] * 2)
        assert record == [0, 1, 2, 3]

    def test_another() -> None:
        with open(tmp_path / "file") as file:
            program.under(file, [])
        program.under(program.lock, [])

    mutation = mutated(tmp_path, test_it)
    assert [row[1:] for row in rows(mutation)] == [
        ("without `scope`", "assertion"),
        ("`record.append(len(record))` before `scope`", "assertion"),
        ("`record.append(len(record))` after `scope`", "assertion"),
    ]
    assert mutation.unreached == []
    # A file is not left open, nor closed early, for the sake of a lock that comes to the same place.
    assert [row[1:] for row in rows(mutated(tmp_path, test_another))] == [("without `scope`", None)]


def test_nothing_of_it_stays(load: Load, tmp_path: Path) -> None:
    program = load(COUNTER)
    source = Path(str(program.__file__)).read_text(encoding="utf-8")
    code = program.Counter.increment.__code__

    def test_increment() -> None:
        counter = program.Counter()
        together(counter.increment, counter.increment)
        assert counter.value == 2

    assert len(mutated(tmp_path, test_increment).verdicts) == 1
    assert Path(str(program.__file__)).read_text(encoding="utf-8") == source
    assert program.Counter.increment.__code__ is code
    # As before, also for a second one.
    assert len(mutated(tmp_path, test_increment).verdicts) == 1


def test_a_test_that_fails_as_it_is(load: Load, tmp_path: Path) -> None:
    load(COUNTER)

    def test_it() -> None:
        raise ValueError("as it is")

    with pytest.raises(ValueError, match="as it is"):
        mutated(tmp_path, test_it)


def test_a_mutant_that_does_not_do_the_same_again(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading

        lock = threading.Lock()
        seen = []
        executions = 0

        def visit():
            with lock:
                seen.append(1)
                before = len(seen)
                threading.Event().is_set()
                if len(seen) != before or executions < 0:
                    # Never with the lock: then what comes next is another thing each time.
                    for _ in range(executions):
                        threading.Event().is_set()
    """)

    def test_it() -> None:
        program.executions += 1
        program.seen.clear()
        together(program.visit, program.visit)

    mutation = mutated(tmp_path, test_it, strategy="dfs", memory=False)
    assert (9, "without `lock`", "divergence") in rows(mutation)
    assert " (divergence)" in str(mutation)


def test_a_search_that_has_an_end(load: Load, tmp_path: Path) -> None:
    program = load(COUNTER)

    def test_look() -> None:
        counter = program.Counter()
        together(counter.increment, counter.increment, counter.increment)
        assert counter.value > 0

    drawn = mutated(tmp_path, test_look, strategy="random", max_executions=20)
    assert str(drawn.verdicts[0]) == "SURVIVED 1 test, 20 executions, not exhausted"
    assert mutated(tmp_path, test_look, strategy="random", seconds=1e-6).verdicts[0].executions < 20
    with pytest.raises(ValueError, match=r"^seconds must be above 0, not 0$"):
        mutated(tmp_path, test_look, seconds=0)


def test_without_memory_locks_are_mutated_all_the_same(load: Load, tmp_path: Path) -> None:
    program = load("""
        import threading, time

        lock = threading.Lock()
        value = 0

        def increment():
            global value
            with lock:
                old = value
                time.sleep(0)
                value = old + 1
    """)

    def test_it() -> None:
        program.value = 0
        together(program.increment, program.increment)
        assert program.value == 2

    found = rows(mutated(tmp_path, test_it, strategy="dfs", memory=False))
    assert (9, "without `lock`", "assertion") in found


# ---- Under pytest ----------------------------------------------------------------------------------------------------

BANK = """
import threading

class Account:
    def __init__(self, balance):
        self.balance = balance
        self.lock = threading.Lock()
        self.history = []
        self.history_lock = threading.Lock()

    def spend(self, amount):
        with self.lock:
            if self.balance >= amount:
                self.balance -= amount
        self.note(amount)

    def note(self, amount):
        with self.history_lock:
            self.history.append(amount)

    def never(self):
        with self.lock:
            self.balance = 0
"""
TESTS = """
import threading
import pytest
from bank import Account

def together(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

@pytest.fixture(scope="module")
def amount():
    return 60

@pytest.fixture
def account(amount):
    return Account(100)

@pytest.mark.interleave
def test_spend(account, amount, tmp_path):
    lock = threading.Lock()
    with lock:
        (tmp_path / "file").write_text("text")
    together(lambda: account.spend(amount), lambda: account.spend(amount))
    assert account.balance == 40

@pytest.mark.interleave
def test_note(account):
    account.note(1)

def test_plain(account):
    account.never()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.syspath_prepend(pytester.path)

    def run(tests: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(bank=BANK, test_bank=tests)
        sys.modules.pop("bank", None)
        # Without Hypothesis, whose plugin imports all of it anew for the summary of each run.
        left_out = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
        return pytester.runpytest_inprocess("-p", "_greenthreads_pytest", *left_out, *arguments)

    return run


def section(result: pytest.RunResult) -> list[str]:
    lines = [str(line) for line in result.outlines]
    begin = next(n for n, line in enumerate(lines) if re.fullmatch("=+ interleave-mutate =+", line))
    end = next(n for n in range(begin + 1, len(lines)) if lines[n].startswith("=="))
    return lines[begin + 1 : end]


def test_the_option(run: Callable[..., pytest.RunResult], pytester: pytest.Pytester) -> None:
    result = run(TESTS, "--interleave-mutate", "--interleave-mutate-seconds=20")
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    removed, narrowed, history, count, unreached = section(result)
    assert re.fullmatch(
        r"bank\.py:11  without `self\.lock` +killed by test_bank\.py::test_spend after \d+ executions? \(assertion\)",
        removed,
    )
    assert narrowed.startswith("bank.py:11  only the test of `if self.balance >= amount:` under `self.lock`  killed by")
    assert re.fullmatch(
        r"bank\.py:17  without `self\.history_lock` +SURVIVED 2 tests, \d+ executions, every schedule", history
    )
    assert count == "3 mutants, 1 survived"
    assert unreached == "never reached, whatever they are: bank.py:21 self.lock"
    # The failures were wanted: no schedule is kept, and no test is reported, but once.
    assert list(pytester.path.glob("**/.interleave/*")) == []
    assert [line for line in result.outlines if line.startswith("FAILED")] == []
    assert len([line for line in result.outlines if line.startswith("test_bank.py::test_spend: ")]) == 1


def test_all_killed_is_success(run: Callable[..., pytest.RunResult]) -> None:
    Path("till.py").write_text(BANK.replace("        self.note(amount)\n", ""), encoding="utf-8")
    result = run(TESTS.replace("from bank", "from till"), "--interleave-mutate", "-k", "test_spend")
    assert section(result)[2] == "2 mutants, 0 survived"
    assert result.ret == pytest.ExitCode.OK


def test_where_there_is_nothing_to_do(run: Callable[..., pytest.RunResult]) -> None:
    assert greenthreads.pytest_plugin.Mutating.name == "interleave-mutate"
    result = run("def test_it(): pass\n", "--interleave-mutate")
    assert section(result) == ["no lock of the code under test was reached: there is nothing to mutate"]
    assert result.ret == pytest.ExitCode.OK
    result = run(TESTS + "\ndef test_broken(): assert False\n", "--interleave-mutate")
    assert section(result) == ["the tests must pass as they are: nothing was mutated"]
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result = run(TESTS, "--interleave-mutate", "-n", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--interleave-mutate is for one process: leave out -n of pytest-xdist"])
    result = run(TESTS, "--interleave-mutate", "--pdb")
    result.stderr.fnmatch_lines(["*--interleave-mutate makes tests fail on purpose: leave out --pdb"])
    result = run(TESTS, "--interleave-mutate", "--interleave-mutate-seconds=0")
    result.stderr.fnmatch_lines(["*--interleave-mutate-seconds must be above 0"])
