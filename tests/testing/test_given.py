"""Tests of Hypothesis under schedules: each example is explored."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from together import together

from greenthreads.testing import interleave

pytest_plugins = "pytester"

CACHE = """
import threading, unittest
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from greenthreads.testing import interleave
from together import together

settings.register_profile("here", database=None, derandomize=True, max_examples=20)
settings.load_profile("here")

class Cache:
    def __init__(self):
        self.made = []
        self.things = {}
        self.lock = threading.Lock()

    def get(self, key):
        if key not in self.things:
            self.made.append(key)
            self.things[key] = object()
        return self.things[key]

    def get_safely(self, key):
        with self.lock:
            return self.get(key)

def made_once(get, cache, keys):
    together(*[lambda key=key: get(key) for key in keys])
    assert sorted(cache.made) == sorted(set(keys))
"""

KEYS = "@given(keys=st.lists(st.integers(0, 3), max_size=3))\n"
BROKEN = f"{KEYS}def test_broken(keys):\n    cache = Cache()\n    made_once(cache.get, cache, keys)\n"
SAFE = f"{KEYS}def test_safe(keys):\n    cache = Cache()\n    made_once(cache.get_safely, cache, keys)\n"


class Run:
    """Runs pytest on a file of tests, in this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, source: str, *arguments: str) -> pytest.RunResult:
        self.pytester.makepyfile(test_cache=CACHE + source)
        plugins = ("-p", "_greenthreads_pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
        return self.pytester.runpytest_inprocess(*plugins, *arguments)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")
    return Run(pytester)


def text_of(result: pytest.RunResult) -> str:
    return str(result.stdout)


def test_the_smallest_example_fails_on_the_smallest_schedule(run: Run) -> None:
    result = run(BROKEN + SAFE, "--interleave")
    result.assert_outcomes(passed=1, failed=1)
    text = text_of(result)
    assert "keys=[0, 0]" in text
    assert "check-then-act of self.things[0]" in text
    assert text.count("with 1 preemption") == 1
    safe = re.search(r"test_safe: (\d+) examples, (\d+) of them exhausted, in (\d+) executions; of the last: ", text)
    assert safe is not None
    examples, exhausted, executions = map(int, safe.groups())
    assert examples == exhausted < executions
    # What `given` has made is not a part of the module that can't be seen.
    assert "memory accesses seen in test_cache; time passed" in text
    # Nor are the lines of the harness an explanation.
    assert "Explanation" not in text


def test_an_assumption_is_no_failure_and_an_exploration_has_no_deadline(run: Run) -> None:
    result = run(
        "@settings(deadline=0.001)\n@given(n=st.integers(0, 3))\n"
        "def test_fine(n):\n    assume(n != 1)\n    together(*[lambda: None] * n)\n",
        "--interleave",
    )
    result.assert_outcomes(passed=1)
    assert "3 examples, 3 of them exhausted" in text_of(result)


def test_methods_and_fixtures(run: Run) -> None:
    result = run(
        "@pytest.fixture(scope='module')\ndef one():\n    return 1\n"
        "class TestIt:\n"
        "    @pytest.mark.interleave(strategy='dpor')\n"
        "    @given(n=st.integers(0, 3))\n"
        "    def test_method(self, one, n):\n        together(*[lambda: None] * (n + one))\n"
        "class Case(unittest.TestCase):\n"
        "    def setUp(self):\n        self.cache = Cache()\n"
        f"    {KEYS}"
        "    def test_case(self, keys):\n        cache = Cache()\n        made_once(cache.get, cache, keys)\n",
        "--interleave",
    )
    result.assert_outcomes(passed=1, failed=1)
    assert "TestIt::test_method: 4 examples, 4 of them exhausted" in text_of(result)
    assert "keys=[0, 0]" in text_of(result)


def test_a_decorated_test_and_limits_of_its_own(run: Run) -> None:
    result = run(
        f"@interleave(max_executions=40, strategy='random')\n{SAFE}"
        f"@interleave()\n{BROKEN}"
        "class Case(unittest.TestCase):\n"
        "    def setUp(self):\n        self.cache = Cache()\n"
        f"    @interleave()\n    {KEYS}    def test_case(self, keys):\n        assert self.cache.made == []\n"
    )
    result.assert_outcomes(passed=2, failed=1)
    text = text_of(result)
    assert "of the last: 2 executions: schedules drawn by a random walk" in text
    assert "keys=[0, 0]" in text


def test_what_is_drawn_while_the_test_runs_is_refused(run: Run) -> None:
    machine = "class Machine(RuleBasedStateMachine):\n    @rule()\n    def step(self):\n        pass\n"
    result = run(
        "@given(data=st.data())\ndef test_data(data):\n    data.draw(st.integers())\n"
        f"{machine}TestFree = Machine.TestCase\n"
        "@pytest.mark.interleave\nclass TestMarked(Machine.TestCase):\n    pass\n",
        "--interleave",
    )
    result.assert_outcomes(passed=1, failed=1, errors=1)
    text = text_of(result)
    assert "TypeError: data() draws while the test runs, and would draw something else in each execution" in text
    assert "is a state machine of Hypothesis: each execution would draw other steps" in text


def test_a_schedule_is_replayed_with_the_examples_that_can_follow_it(run: Run) -> None:
    text = text_of(run(BROKEN, "--interleave"))
    command = re.search(r"replay: pytest (\S+) (--interleave-replay=\S+)", text)
    assert command is not None
    result = run(BROKEN, *command.groups())
    result.assert_outcomes(failed=1)
    assert "keys=[0, 0]" in text_of(result)
    assert "check-then-act" in text_of(result)
    # Nothing is run by that schedule.
    result = run("@given(n=st.just(0))\ndef test_broken(n):\n    pass\n", *command.groups())
    result.assert_outcomes(failed=1)
    assert "none of the examples could follow this schedule" in text_of(result)


def test_a_mutant_is_killed_by_an_example(run: Run) -> None:
    run.pytester.makepyfile(caches=CACHE)
    safe = f"from caches import *\n{SAFE}"
    run.pytester.makepyfile(test_caches=safe)
    arguments = ("-p", "_greenthreads_pytest", "-p", "no:hypothesispytest", "--interleave", "--interleave-mutate")
    result = run.pytester.runpytest_inprocess("test_caches.py", *arguments)
    result.assert_outcomes(passed=1)
    assert "without `self.lock`  killed by test_caches.py::test_safe" in text_of(result)
    assert "(assertion)" in text_of(result)
    assert "1 mutant, 0 survived" in text_of(result)


@interleave(strategy="dpor")
@settings(max_examples=10, database=None, derandomize=True)
@given(st.integers(0, 2))
def adds_up(n: int) -> None:
    assume(n)
    total = 0

    def add() -> None:
        nonlocal total
        total += 1

    together(*[add] * n)
    assert total == n


def test_a_decorated_function_needs_no_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    test = adds_up.__wrapped__  # type: ignore[attr-defined]
    inner, deadline = test.hypothesis.inner_test, test._hypothesis_internal_use_settings.deadline
    with pytest.raises(AssertionError) as caught:
        adds_up()
    # Before Python 3.11 our report is printed, and Hypothesis has notes all the same.
    said = "\n".join([*getattr(caught.value, "__notes__", ()), capsys.readouterr().out])
    assert "lost update of total" in said
    # The test below the decorator is as it was.
    assert test.hypothesis.inner_test is inner
    assert test._hypothesis_internal_use_settings.deadline == deadline
